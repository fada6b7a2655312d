"""Agents with a known behaviour, for checks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from streaming_queue.messages import DELTA, MESSAGE

Behaviour = Callable[[Any, Any], Awaitable[None]]


def message(text: str, **more: Any) -> dict[str, Any]:
    """The event of a whole answer."""
    return {"type": MESSAGE, "data": text, **more}


class Agent:
    """Runs `behave(context, event_queue)`."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Run `behave`."""
        await self.behave(context, event_queue)


class Echo:
    """Answers with the text of the question."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer."""
        await event_queue.enqueue_event(message(context.get_user_input()))


class Recorder(Echo):
    """An echo that appends `note(context)` of each question to `seen`."""

    def __init__(self, note: Callable[[Any], Any] = lambda context: context.get_user_input()) -> None:
        self.note = note
        self.seen: list[Any] = []

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Append the note, then answer."""
        self.seen.append(self.note(context))
        await super().execute(context, event_queue)


class Gate:
    """Answers `answer N` to its N-th question when `open` is set; counts its runs and cancellations."""

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.open = asyncio.Event()

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Wait for `open`, then answer."""
        del context
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
    """Ignores cancellation until `release` is set or `seconds` have passed."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self.started = asyncio.Event()
        self.release = asyncio.Event()

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Hang."""
        del context, event_queue
        self.started.set()
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        while not self.release.is_set() and (left_s := end - loop.time()) > 0:
            try:
                await asyncio.wait_for(self.release.wait(), left_s)
            except (asyncio.CancelledError, TimeoutError):
                continue


def whole(text: str) -> Behaviour:
    """Answer with `text` in one message."""
    return lambda _, queue: queue.enqueue_event(message(text))


def pieces(texts: Sequence[str]) -> Behaviour:
    """Answer with `texts`, piece by piece."""

    async def behave(_: Any, queue: Any) -> None:
        for text in texts:
            await queue.enqueue_event({"type": DELTA, "data": text})

    return behave


async def soon(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until `condition` holds. Raises AssertionError after `within_s`."""
    until = asyncio.get_running_loop().time() + within_s
    while not condition():
        if asyncio.get_running_loop().time() >= until:
            raise AssertionError(f"the condition did not hold within {within_s:g} s")
        await asyncio.sleep(0.005)
