"""One message that was asked, and the replies to it as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nats.aio.msg import Msg

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES, over_limit
from streaming_queue.errors import CommError, ConnectError
from streaming_queue.protocol_backend.nats.codec import is_nobody

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.nats.instances import Instance

UNREAD_BYTES = 2 * MAX_EVENT_BYTES
"""How much of an answer may wait for a reader that does not keep up."""


class LostError(Exception):
    """The message, or the answer to it, was lost on the way: it may have been taken, so that a key is needed to repeat.

    `error` is what to tell who asked.
    """

    def __init__(self, error: CommError) -> None:
        super().__init__(str(error))
        self.error = error


class Request:
    """What waits for replies. `inbox` is the subject they come to, `where` the address that was asked.

    `instance` is who works on it, once that is known. Times are the event loop's: when it was asked, when a reply last
    came, and by when `instance` must be known.
    """

    __slots__ = (
        "_failure",
        "_find",
        "_replies",
        "_unread",
        "_waiter",
        "asked_at",
        "doomed_at",
        "heard_at",
        "inbox",
        "instance",
        "subject",
        "where",
    )

    def __init__(self, subject: str, inbox: str, where: str, find: Callable[[str, str], Instance]) -> None:
        self.subject = subject
        self.inbox = inbox
        self.where = where
        self.instance: Instance | None = None
        self.asked_at = self.heard_at = asyncio.get_running_loop().time()
        self.doomed_at: float | None = None
        self._find = find
        self._replies: deque[bytes] = deque()
        self._unread = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: CommError | LostError | None = None

    async def reply(self) -> bytes:
        """The next reply. Raises what the request failed with."""
        while not self._replies:
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        body = self._replies.popleft()
        self._unread -= len(body)
        return body

    def take(self, message: Msg) -> None:
        """A message came to the inbox."""
        body = message.data
        if is_nobody(body, message.headers):
            self.fail(ConnectError(f"{self.where}: nobody listens there"))
            return
        self.heard_at = asyncio.get_running_loop().time()
        if self.instance is None and message.reply:
            self.instance = self._find(message.reply, self.subject)
        if self._failure is not None:
            return
        if self._unread + len(body) > UNREAD_BYTES:
            self.fail(over_limit(self.where, "what waits to be read of the answer", UNREAD_BYTES))
            return
        self._unread += len(body)
        self._replies.append(body)
        self._wake()

    def fail(self, error: CommError | LostError) -> None:
        """Nothing more comes."""
        if self._failure is None:
            self._failure = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
