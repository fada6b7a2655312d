"""One message that was asked, and the replies to it as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nats.aio.msg import Msg

from streaming_queue.errors import CommError, ConnectError, ProtocolError
from streaming_queue.protocol_backend.nats.codec import is_nobody

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.nats.instances import Instance

MAX_ANSWER_BYTES = 16 * 1024 * 1024


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
        "_size",
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
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: CommError | LostError | None = None

    async def reply(self) -> bytes:
        """The next reply. Raises what the request failed with."""
        while not self._replies:
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._replies.popleft()

    def take(self, message: Msg) -> None:
        """A message came to the inbox."""
        body = message.data
        if is_nobody(body, message.headers):
            self.fail(ConnectError(f"{self.where}: nobody listens there"))
            return
        self.heard_at = asyncio.get_running_loop().time()
        if self.instance is None and message.reply:
            self.instance = self._find(message.reply, self.subject)
        self._size += len(body)
        if self._size > MAX_ANSWER_BYTES:
            self.fail(ProtocolError(f"{self.where}: the answer is over the limit of {MAX_ANSWER_BYTES} bytes"))
            return
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
