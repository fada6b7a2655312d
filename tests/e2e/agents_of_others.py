"""Agents as their authors write them, for `stq serve worker --executor agents_of_others:Class`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from a2a.helpers.proto_helpers import new_text_message
from a2a.server.agent_execution import AgentExecutor
from a2a.types.a2a_pb2 import Role


def note(text: str) -> None:
    with Path(os.environ["TEST_RUNS"]).open("a") as runs:
        runs.write(f"{text}\n")


def wait_for_gate() -> None:
    while not Path(os.environ["TEST_GATE"]).exists():
        time.sleep(0.02)


class Shouter:
    """The guide's interface, and nothing of ours."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        text = context.get_user_input().upper()
        await event_queue.enqueue_event({"type": "agent_text_message", "data": text})


class Slow:
    """Answers when the file TEST_GATE is there; keeps count of its runs in TEST_RUNS."""

    def __init__(self, config: Any, output: Any = None) -> None:
        self.config = config

    async def execute(self, context: Any, event_queue: Any) -> None:
        await asyncio.to_thread(note, context.get_user_input())
        await event_queue.enqueue_event({"type": "agent_status", "data": "thinking"})
        await asyncio.to_thread(wait_for_gate)
        await event_queue.enqueue_event({"type": "agent_text_message", "data": "at last"})


class Counted:
    """Answers after 50 ms; keeps count of its runs in TEST_RUNS."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        note(context.get_user_input())
        await asyncio.sleep(0.05)
        await event_queue.enqueue_event({"type": "agent_text_message", "data": f"to {context.get_user_input()}"})


class Mortal:
    """Answers, and dies of the question that has "poison" in it."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        if "poison" in context.get_user_input():
            os.kill(os.getpid(), signal.SIGKILL)
        await event_queue.enqueue_event({"type": "agent_text_message", "data": "alive"})


class Held:
    """Answers its first TEST_FREE questions, and the others when the file TEST_GATE is there."""

    def __init__(self) -> None:
        self.free = int(os.environ["TEST_FREE"])

    async def execute(self, context: Any, event_queue: Any) -> None:
        self.free -= 1
        if self.free < 0:
            await asyncio.to_thread(wait_for_gate)
        await event_queue.enqueue_event({"type": "agent_text_message", "data": "free"})


class Native(AgentExecutor):
    """Written for the A2A SDK."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        text = f"native {context.get_user_input()}"
        await event_queue.enqueue_event(new_text_message(text, role=Role.ROLE_AGENT))

    async def cancel(self, context: Any, event_queue: Any) -> None:
        raise NotImplementedError


class NoAgent:
    pass
