"""Executors that do as a test needs, and requests to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from streaming_queue.comm.context import RequestContext
from streaming_queue.messages import MESSAGE


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"type": MESSAGE, "data": text, **more}


class Agent:
    """Runs `behave(context, event_queue)`."""

    def __init__(self, behave: Callable[[Any, Any], Awaitable[None]]) -> None:
        self.behave = behave

    async def execute(self, context: Any, event_queue: Any) -> None:
        await self.behave(context, event_queue)


class Echo:
    async def execute(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event(message(context.get_user_input()))


class Gate:
    """Answers when told to; says when it was started and whether it was cancelled."""

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.open = asyncio.Event()

    async def execute(self, context: Any, event_queue: Any) -> None:
        self.runs += 1
        self.started.set()
        try:
            await self.open.wait()
            await event_queue.enqueue_event(message(f"answer {self.runs}"))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.ended.set()


class Stubborn:
    """Will not be cancelled before it is released (or three seconds have passed, so that no test hangs)."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()

    async def execute(self, context: Any, event_queue: Any) -> None:
        self.started.set()
        end = asyncio.get_running_loop().time() + 3
        while not self.release.is_set() and (left_s := end - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.wait_for(self.release.wait(), left_s)
            except (asyncio.CancelledError, TimeoutError):
                continue


def request(text: str = "q", *, principal: str | None = None, **metadata: Any) -> RequestContext:
    return RequestContext({"text": text, "metadata": metadata}, agent_id="w", principal=principal)


async def soon(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; fails after two seconds."""
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come true")
