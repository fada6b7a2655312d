"""A question at a worker, that can be given up from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from streaming_queue.errors import StreamingQueueError

T = TypeVar("T")


class InFlightCall:
    """One question at one worker, in `task`, its owner's own."""

    __slots__ = ("_is_out", "_reason", "_task", "worker_id")

    def __init__(self, worker_id: str, task: asyncio.Task[Any]) -> None:
        self.worker_id = worker_id
        self._task = task
        self._is_out = True
        self._reason: StreamingQueueError | None = None

    async def run(self, asking: Awaitable[T]) -> T:
        """What comes of `asking`. Raises what it raises, or the reason that it was given up for."""
        try:
            return await asking
        except asyncio.CancelledError:
            if self._reason is None or self._task.uncancel():
                raise
            raise self._reason from None
        finally:
            self._is_out = False

    def give_up(self, reason: StreamingQueueError) -> None:
        """Cancel the question at the worker, if it is still under way there."""
        if self._is_out and self._reason is None:
            self._reason = reason
            self._task.cancel()
