"""The replies to one of many requests that share a connection."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES, over_limit
from streaming_queue.comm.context import listener

UNREAD_BYTES = 2 * MAX_EVENT_BYTES
"""How many bytes of an answer may wait for a slow reader."""

T = TypeVar("T")


class Replies(Generic[T]):
    """The replies to one request that its reader did not take yet. A slow reader holds up no other reader.

    `heard` tells the caller that makes the request of a sign of life (`comm.context.listener`).
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
        """Take in a reply of `size` bytes, a sign of life. The request fails when too many bytes wait already."""
        self.heard()
        if self._failure is not None:
            return
        if self._unread + size > UNREAD_BYTES:
            self.fail(over_limit(self.address, "what waits to be read of the answer", UNREAD_BYTES))
            return
        self._unread += size
        self._replies.append((reply, size))
        self._wake()

    def fail(self, failure: Exception) -> None:
        """Take in no more replies, for this reason."""
        if self._failure is None:
            self._failure = failure
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> T:
        """The next reply. Raises the failure after the replies that came before it."""
        while not self._replies:
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        reply, size = self._replies.popleft()
        self._unread -= size
        return reply
