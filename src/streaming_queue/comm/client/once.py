"""A value that concurrent callers share: one connection, one token, one negotiation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from streaming_queue.errors import StreamingQueueError

T = TypeVar("T")


class Once(Generic[T]):
    """A value that `make` creates for the first caller, and again when `good` is false; without `good` it stays valid.

    Concurrent callers wait for the same task; the task goes on when they leave. A failure reaches all of them, and the
    next caller tries again.
    """

    __slots__ = ("_closed", "_good", "_make", "_name", "_task", "value")

    def __init__(
        self, make: Callable[[], Coroutine[Any, Any, T]], name: str, good: Callable[[T], bool] | None = None
    ) -> None:
        self.value: T | None = None
        """The last value."""
        self._make = make
        self._name = name
        self._good = good
        self._task: asyncio.Task[T] | None = None
        self._closed: StreamingQueueError | None = None

    async def get(self) -> T:
        """The value. Raises the failure of `make`, and after `aclose` the reason of the close."""
        value = self.value
        if value is not None and (self._good is None or self._good(value)):
            return value
        self._check_open()
        task = self._task
        if task is None:
            task = self._task = asyncio.create_task(self._run(), name=self._name)
            task.add_done_callback(_retrieve)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                self._check_open()
            raise

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed from None

    async def _run(self) -> T:
        try:
            self.value = value = await self._make()
            return value
        finally:
            self._task = None

    async def settle(self) -> T | None:
        """Wait for a running task. Returns the value, None without one."""
        if self._task is not None:
            await asyncio.wait({self._task})
        return self.value

    async def aclose(self, reason: StreamingQueueError) -> T | None:
        """Cancel a running task and create no new value: callers fail with `reason`. Returns like `settle`."""
        self._closed = reason
        if self._task is not None:
            self._task.cancel()
        return await self.settle()


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Mark the task's failure as read: all callers may have left, and asyncio would warn."""
    if not task.cancelled():
        task.exception()
