"""One remote agent: its connection, and each exchange over it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from itertools import count
from operator import attrgetter
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES, AnswerMeter
from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.exchange import Cancels, Exchange
from streaming_queue.comm.client.http import CONNECT_TIMEOUT_S, agent_headers, agent_url
from streaming_queue.comm.client.once import Once
from streaming_queue.comm.client.replies import Replies
from streaming_queue.errors import ConnectError, ProtocolError, StreamingQueueError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent, reply_of
from streaming_queue.protocol_backend.ws.connection import CLOSE_TIMEOUT_S, ClientSide, library_log
from streaming_queue.protocol_backend.ws.failures import not_connected
from streaming_queue.protocol_backend.ws.frames import (
    PONG,
    SUBPROTOCOL,
    decode_event,
    encode_cancel,
    encode_ping,
    encode_request,
)
from streaming_queue.protocol_backend.ws.link import ENDS, Frame, Link

SCHEMES = ("ws", "wss")


class _Connect(connect):
    """The library's `connect` without redirects: a credential goes to its agent's address only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Treat a redirect as a refusal."""
        return exc


class Peer:
    """One agent. All messages share a connection; the first message opens it, and the next message after a loss."""

    def __init__(self, agent_id: str, address: str, options: EndpointOptions) -> None:
        self.address = address
        self._url = agent_url(agent_id, address, SCHEMES)
        self._headers = agent_headers(agent_id, options, {})
        self._tls = options.tls
        self.numbers = count(1)
        self._connection: Once[Link] = Once(self._connect, f"connect:{address}", attrgetter("open"))

    async def connected(self) -> Link:
        """The open connection.

        Raises:
            ConnectError: no host answers, or its TLS certificate is not trusted.
            AuthError: the host refused the credential.
            ProtocolError: the host does not speak the contract.
        """
        return await self._connection.get()

    async def _connect(self) -> Link:
        secure = self._url.scheme == "wss"
        try:
            if (former := self._connection.value) is not None:
                await former.ended()
            if secure and self._tls is None:
                self._tls = await asyncio.to_thread(ssl.create_default_context)
            connection: Any = await _Connect(
                str(self._url),
                subprotocols=[SUBPROTOCOL],
                compression=None,
                additional_headers=list(self._headers.items()),
                user_agent_header=None,
                proxy=None,
                open_timeout=CONNECT_TIMEOUT_S,
                ping_interval=None,
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=MAX_EVENT_BYTES,
                logger=library_log,
                create_connection=ClientSide,
                ssl=self._tls if secure else None,
            )
            if connection.subprotocol != SUBPROTOCOL:
                await connection.hang_up(1002, f"this end speaks {SUBPROTOCOL}")
                raise ProtocolError(f"{self.address}: does not support the subprotocol {SUBPROTOCOL}")
            return Link(connection, self.address)
        except (OSError, WebSocketException) as error:
            raise not_connected(error, self.address) from error

    async def probe(self) -> bool:
        """Whether the agent reports that it takes questions. Raises like `connected`."""
        pong = await self._ping(await self.connected())
        return pong.get("type") == PONG and pong.get("status") == "ok"

    async def _ping(self, link: Link) -> dict[str, Any]:
        number = next(self.numbers)
        inbox = link.expect(number)
        try:
            await link.write(encode_ping(number))
            return await inbox.get()
        finally:
            link.forget(number)

    async def describe(self) -> dict[str, Any]:
        """The agent's answer to a ping, its limit on a request, and its clock, if we connected just now.

        Raises like `connected`.
        """
        before = self._connection.value
        link = await self.connected()
        pong = await self._ping(link)
        if pong.get("type") != PONG:
            raise ProtocolError(f"{self.address}: the answer to a ping is not a pong")
        facts = {key: value for key, value in pong.items() if key not in ("type", "id", "date")}
        facts["request limit"] = f"{link.request_limit} bytes"
        return facts if link is before or link.date is None else {**facts, "date": link.date}

    async def close(self, reason: StreamingQueueError) -> None:
        """Close the connection; messages in flight and later ones fail for this reason."""
        link = await self._connection.aclose(reason)
        if link is not None:
            await link.close(reason)


class WsExchange(Exchange):
    """A request frame and the frames that answer it. The host finds the work again by the idempotency key."""

    leaves = (ProtocolError,)

    def __init__(self, peer: Peer, payload: Mapping[str, Any], cancels: Cancels) -> None:
        super().__init__(peer.address, payload, cancels)
        self._peer = peer
        self._number = next(peer.numbers)
        self._link: Link | None = None
        self._inbox: Replies[Frame]
        self._waits = False

    def resumes(self, error: Exception) -> bool:
        """Whether an open connection broke and the message has a key."""
        broke = self._link is not None and error is self._link.lost and isinstance(error, ConnectError)
        return broke and self.key is not None

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """Send a request frame; yield the events of its answer. Raises like `_begin`."""
        inbox = await self._begin()
        while True:
            yield await self._next(inbox)

    async def ask(self) -> Reply:
        """Send a request frame; return the answer. It avoids generators: they cost a twentieth of the CPU."""
        inbox, meter = await self._begin(), AnswerMeter(self.address)
        while (event := await self._next(inbox))["type"] != MESSAGE:
            meter.take(event)
        return reply_of(event)

    async def _begin(self) -> Replies[Frame]:
        """Send the request frame. Raises like `Peer.connected`, and ProtocolError on a frame that the host refuses."""
        data = encode_request(self._number, self.payload, streaming=self.streaming)
        link = self._link = await self._peer.connected()
        if len(data) > link.request_limit:
            limit = f"the limit of {link.request_limit} bytes"
            raise ProtocolError(f"{self.address}: the message is over {limit}", retryable=False)
        self._inbox = link.expect(self._number)
        self._waits = True
        await link.write(data)
        return self._inbox

    async def _next(self, inbox: Replies[Frame]) -> StreamEvent:
        frame = await inbox.get()
        self._waits = frame.get("type") not in ENDS
        return decode_event(frame, self.address)

    @property
    def cancellable(self) -> bool:
        """Whether the agent works on the message and can get a cancel."""
        return self._waits and self._link is not None and self._link.open

    async def cancel(self) -> None:
        """Send a cancel frame, and wait for the end of the work."""
        if self._link is not None:
            await self._link.write(encode_cancel(self._number))
            while (await self._inbox.get()).get("type") not in ENDS:
                pass

    def release(self) -> None:
        """Accept no more frames for the request."""
        if self._link is not None:
            self._link.forget(self._number)
