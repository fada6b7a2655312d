"""A question at a worker; another task can cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from streaming_queue.errors import StreamingQueueError

T = TypeVar("T")


class InFlightCall:
    """One question at one worker, in the current task."""

    __slots__ = ("_is_out", "_reason", "_task", "worker_id")

    def __init__(self, worker_id: str) -> None:
        if (task := asyncio.current_task()) is None:
            raise RuntimeError("a call to a worker needs a task")
        self.worker_id = worker_id
        self._task = task
        self._is_out = True
        self._reason: StreamingQueueError | None = None

    @property
    def is_open(self) -> bool:
        """Whether the answer may still come: the call has no result, and was not given up."""
        return self._is_out and self._reason is None

    async def run(self, asking: Awaitable[T]) -> T:
        """The result of `asking`. Raises the error of `asking`, or the reason of `give_up`."""
        try:
            return await asking
        except asyncio.CancelledError:
            if self._reason is None or self._task.uncancel():
                raise
            raise self._reason from None
        finally:
            self._is_out = False

    def give_up(self, reason: StreamingQueueError) -> None:
        """Cancel the question at the worker, if it is still in flight."""
        if self.is_open:
            self._reason = reason
            self._task.cancel()
