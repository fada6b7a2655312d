"""One remote agent, by its subject; replies arrive in an inbox."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.client.exchange import Cancels, Exchange
from streaming_queue.comm.payload import encode_request
from streaming_queue.errors import CommError, ConnectError, ProtocolError, SendTimeoutError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent, reply_of
from streaming_queue.protocol_backend.nats.codec import (
    CREDENTIAL_HEADER,
    STREAM,
    STREAM_HEADER,
    decode_event,
    decode_health,
)
from streaming_queue.protocol_backend.nats.inbox import Inbox
from streaming_queue.protocol_backend.nats.request import Request

PROBE_TIMEOUT_S = 1.0
PATIENCE_S = 5.0
"""A lost message waits this long, in seconds, until the server and the agent are back."""
SHORTEST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5


class Peer:
    """One agent; every message to it has `headers`."""

    def __init__(self, subject: str, inbox: Inbox, headers: Mapping[str, str]) -> None:
        self.address = f"{inbox.link.server}/{subject}"
        self.subject = subject
        self.inbox = inbox
        self.headers = headers

    async def connect(self) -> None:
        """Connect to the server, and probe the agent once, healthy or not. Raises like `send`."""
        await self.inbox.link.open()
        with suppress(CommError):
            await self.healthy()

    async def healthy(self) -> bool:
        """Whether an instance of the agent reports that it takes questions. Raises the reason if none answers."""
        return (await self._probe({})).get("status") == "ok"

    async def describe(self) -> dict[str, Any]:
        """The health of an instance. Raises CommError if none answers, or none accepts our credential."""
        return await self._probe({CREDENTIAL_HEADER: "", **self.headers})

    async def _probe(self, headers: dict[str, str]) -> dict[str, Any]:
        request = await self.inbox.ask(f"{self.subject}.health", headers=headers)
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return decode_health(await request.get(), self.address)
        except TimeoutError as error:
            raise SendTimeoutError(f"{self.address}: no answer to its probe within {PROBE_TIMEOUT_S:g} s") from error
        finally:
            self.inbox.forget(request)


class NatsExchange(Exchange):
    """A message to the agent's subject, and the replies. A host finds the work again by the idempotency key."""

    def __init__(self, peer: Peer, payload: Mapping[str, Any], cancels: Cancels) -> None:
        super().__init__(peer.address, payload, cancels)
        self._subject = peer.subject
        self._inbox = peer.inbox
        self._body, self._headers = encode_request(payload)
        self._headers.update(peer.headers)
        self._request: Request | None = None

    def resumes(self, error: Exception) -> bool:
        """Whether the message or the answer was lost, and the message has a key."""
        return self.key is not None and self._request is not None and error is self._request.lost

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """Send the message; yield the events in the replies."""
        if self.streaming:
            self._headers[STREAM_HEADER] = STREAM
        ended = False
        try:
            request, body = await self._begin()
            while True:
                event = decode_event(body, self.address)
                if event is not None:
                    ended = event["type"] == MESSAGE
                    yield event
                body = await request.get()
        except (asyncio.CancelledError, GeneratorExit, ProtocolError):
            if not ended:
                await self._publish_cancel()
            raise

    async def ask(self) -> Reply:
        """Send the message; return the answer. It avoids generators: they cost a twentieth of the CPU."""
        meter = AnswerMeter(self.address)
        try:
            request, body = await self._begin()
            while (event := decode_event(body, self.address)) is None or event["type"] != MESSAGE:
                if event is not None:
                    meter.take(event)
                body = await request.get()
        except (asyncio.CancelledError, ProtocolError):
            await self._publish_cancel()
            raise
        return reply_of(event)

    async def _publish_cancel(self) -> None:
        """Send the cancel. The answer of the agent, or of the server if no agent listens, ends the request."""
        if self._request is not None and self.cancellable:
            with suppress(CommError):
                await self._inbox.link.publish(f"{self._subject}.cancel", reply=self._request.inbox)

    async def _begin(self) -> tuple[Request, bytes]:
        """Send the message; returns the first reply. After a loss, wait until the server and the agent are back."""
        loop, until, pause_s = asyncio.get_running_loop(), 0.0, SHORTEST_PAUSE_S
        if self.resumed and not self._inbox.link.connected:
            until = loop.time() + PATIENCE_S
        while True:
            self.release()
            try:
                request = self._request = await self._inbox.ask(self._subject, self._body, self._headers)
                return request, await request.get()
            except ConnectError as error:
                if self.resumes(error) or loop.time() + pause_s > until:
                    raise
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    @property
    def cancellable(self) -> bool:
        """Whether the agent may have the message and can get a cancel; a command goes on."""
        return self._request is not None and self._inbox.link.connected and not self.is_command

    async def cancel(self) -> None:
        """Wait for the end of the work; `events` has sent the cancel."""
        event = None
        while self._request is not None and (event is None or event["type"] != MESSAGE):
            event = decode_event(await self._request.get(), self.address)

    def release(self) -> None:
        """Accept no more replies to the message."""
        if self._request is not None:
            self._inbox.forget(self._request)
            self._request = None
