"""The replies to one of many requests that share a connection."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES, over_limit
from streaming_queue.comm.context import listener

UNREAD_BYTES = 2 * MAX_EVENT_BYTES
"""The limit for the unread bytes of an answer."""

T = TypeVar("T")


class Replies(Generic[T]):
    """The unread replies to one request. A slow reader does not block other readers.

    `heard` reports a sign of life to the caller of the request (`comm.context.listener`).
    """

    __slots__ = ("_failure", "_replies", "_unread", "_waiter", "address", "heard")

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard = listener()
        self._replies: deque[tuple[T, int]] = deque()
        self._unread = 0
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, reply: T, size: int) -> None:
        """Add a reply of `size` bytes; it is a sign of life. The request fails if too many bytes are unread."""
        self.heard()
        if self._failure is not None:
            return
        if self._unread + size > UNREAD_BYTES:
            self.fail(over_limit(self.address, "the unread part of the answer", UNREAD_BYTES))
            return
        self._unread += size
        self._replies.append((reply, size))
        self._wake()

    def fail(self, failure: Exception) -> None:
        """Accept no more replies; `get` raises this failure."""
        if self._failure is None:
            self._failure = failure
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> T:
        """The next reply. Raises the failure after the replies that arrived before it."""
        while not self._replies:
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        reply, size = self._replies.popleft()
        self._unread -= size
        return reply
