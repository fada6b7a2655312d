"""One subscription for all replies to this process; it passes each reply to its request."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count
from secrets import token_hex

from nats.aio.msg import Msg

from streaming_queue.errors import AuthError, CommError
from streaming_queue.protocol_backend.nats.codec import NO_RESPONDERS_HEADERS
from streaming_queue.protocol_backend.nats.link import Link
from streaming_queue.protocol_backend.nats.request import Instance, Request, ask_which, mourn

WATCH_S = 0.2
"""The pause, in seconds, between two checks of the instances of requests; younger requests are not checked."""


class Inbox:
    """The requests in flight over one link; no other inbox uses that link."""

    lasting = False

    def __init__(self, link: Link) -> None:
        self.link = link
        self._server = f"{link.server}/"
        self._prefix = ""
        self._numbers = count()
        self._takers: dict[str, Request | Instance] = {}
        self._instances: dict[str, Instance] = {}
        self._watching: asyncio.Task[None] | None = None
        link.guests.append(self)

    async def ask(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Request:
        """Send a message; the caller must `forget` its request at the end. Raises like `Link.publish`."""
        if not self.link.connected:
            await self.link.open()  # `join` sets the subject of replies
        inbox = f"{self._prefix}{next(self._numbers)}"
        request = Request(subject, inbox, self._server + subject, self._instance)
        self._takers[inbox] = request
        try:
            await self.link.publish(subject, body, reply=inbox, headers=headers)
        except BaseException:
            self.forget(request)
            raise
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name=f"nats:watch:{self.link.server}")
        return request

    def forget(self, request: Request) -> None:
        """Accept no more replies to a request."""
        self._takers.pop(request.inbox, None)

    @property
    def _requests(self) -> list[Request]:
        return [taker for taker in self._takers.values() if isinstance(taker, Request)]

    # --- replies ---

    async def join(self, link: Link) -> None:
        """Subscribe to a new subject: no request is in flight."""
        self._prefix = f"{link.inbox}.{token_hex(8)}."
        await link.subscribe(f"{self._prefix}*", self._receive)

    async def _receive(self, message: Msg) -> None:
        taker = self._takers.get(message.subject)
        if taker is not None:
            taker.take(message)
        elif message.reply:  # the sender works for a caller that left
            with suppress(CommError):
                await self.link.publish(message.reply, headers=dict(NO_RESPONDERS_HEADERS))

    def broken(self, error: CommError) -> None:
        """Mark all requests in flight as lost: the connection broke."""
        self._drop(list(self._instances.values()))
        for request in self._requests:
            request.lose(error)

    def denied(self, reason: str) -> None:
        """Fail the requests to a subject that the server denies us."""
        for request in self._requests:
            if f'"{request.subject.lower()}"' in reason:
                request.fail(AuthError(f"{request.address}: the server says: {reason}"))

    # --- instances ---

    def _instance(self, reply: str, subject: str) -> Instance:
        """The process of a reply subject: the subject without its last token names the process."""
        name = reply.rpartition(".")[0]
        instance = self._instances.get(name)
        if instance is None:
            inbox = f"{self._prefix}{next(self._numbers)}"
            instance = self._instances[name] = self._takers[inbox] = Instance(f"{name}.0", inbox, self._gone)
        instance.serves.add(subject)
        return instance

    def _gone(self, instance: Instance) -> None:
        self._drop([instance])
        mourn(instance, self._requests, asyncio.get_running_loop().time())

    def _drop(self, instances: list[Instance]) -> None:
        for instance in instances:
            self._takers.pop(instance.inbox, None)
            self._instances.pop(instance.control.rpartition(".")[0], None)

    async def _watch(self) -> None:
        """Check the instances while a request is in flight."""
        loop = asyncio.get_running_loop()
        while self._requests:
            await asyncio.sleep(WATCH_S)
            for instance in ask_which(self._requests, self._instances.values(), loop.time(), WATCH_S):
                with suppress(CommError):  # a broken link has failed them all
                    await self.link.publish(instance.control, reply=instance.inbox)
        self._watching = None

    async def close(self) -> None:
        """Stop the checks and close the link; requests in flight fail."""
        await self.link.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
