"""An agent as it is asked: by its subject, over an inbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.client.cancels import Cancels
from streaming_queue.comm.client.reconnect import Reconnect
from streaming_queue.comm.context import heard
from streaming_queue.errors import CommError, ConnectError, ProtocolError, SendTimeoutError, StreamingQueueError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.nats.codec import (
    CREDENTIAL_HEADER,
    HEARTBEAT,
    STREAM,
    STREAM_HEADER,
    decode_event,
    decode_health,
    encode_request,
)
from streaming_queue.protocol_backend.nats.inbox import Inbox
from streaming_queue.protocol_backend.nats.patience import Patience
from streaming_queue.protocol_backend.nats.request import LostError, Request

PROBE_TIMEOUT_S = 1.0

_KEY = "idempotency-key"


class Peer:
    """One agent; `headers` ride along with every message."""

    def __init__(self, subject: str, inbox: Inbox, headers: Mapping[str, str], cancels: Cancels) -> None:
        self.address = f"{inbox.link.server}/{subject}"
        self._subject = subject
        self._inbox = inbox
        self._headers = headers
        self._cancels = cancels

    async def send(self, payload: Mapping[str, Any]) -> Reply:
        """The answer; `raw` is its event. A message with a key is asked again when it was lost on the way.

        Raises like `BaseCommBackend.send`.
        """
        body, headers = self._encode(payload)
        recovery, patience = self._reconnect(headers)
        while True:
            try:
                with recovery:
                    return _reply(await self._ask(payload, body, headers))
                patience.begin()
            except LostError as lost:
                raise lost.error from None
            except ConnectError as error:
                await patience.wait(error)

    async def _ask(self, payload: Mapping[str, Any], body: bytes, headers: dict[str, str]) -> StreamEvent:
        request = await self._inbox.ask(self._subject, body, headers)
        meter = AnswerMeter(self.address)
        try:
            while True:
                event = decode_event(await request.reply(), self.address)
                heard()
                meter.take(event)
                if event["type"] == MESSAGE:
                    return event
        except (asyncio.CancelledError, ProtocolError) as error:
            await self._leave(request, payload, error)
            raise
        finally:
            self._inbox.forget(request)

    async def stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        """The events as they come, to the whole answer; after a loss those that are new. Raises like `send`."""
        body, headers = self._encode(payload)
        headers[STREAM_HEADER] = STREAM
        recovery, patience = self._reconnect(headers)
        told = 0
        while True:
            try:
                with recovery:
                    async with aclosing(self._events(payload, body, headers)) as events:
                        seen = 0
                        async for event in events:
                            seen += 1
                            if seen > told or event["type"] == MESSAGE:
                                told = max(told, seen)
                                yield event
                    return
                patience.begin()
            except LostError as lost:
                raise lost.error from None
            except ConnectError as error:
                await patience.wait(error)

    async def _events(
        self, payload: Mapping[str, Any], body: bytes, headers: dict[str, str]
    ) -> AsyncGenerator[StreamEvent, None]:
        request = await self._inbox.ask(self._subject, body, headers)
        meter = AnswerMeter(self.address)
        kind = None
        try:
            while kind != MESSAGE:
                event = decode_event(await request.reply(), self.address)
                heard()
                meter.take(event)
                kind = event["type"]
                if kind != HEARTBEAT:
                    yield event
        except (asyncio.CancelledError, GeneratorExit, ProtocolError) as error:
            if kind != MESSAGE:
                await self._leave(request, payload, error)
            raise
        finally:
            self._inbox.forget(request)

    def _reconnect(self, headers: Mapping[str, str]) -> tuple[Reconnect, Patience]:
        recovery = Reconnect(keyed=_KEY in headers, broken=lambda error: isinstance(error, LostError))
        return recovery, Patience(self._inbox.link)

    def _encode(self, payload: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
        body, headers = encode_request(payload)
        headers.update(self._headers)
        return body, headers

    # --- leaving ---

    async def _leave(self, request: Request, payload: Mapping[str, Any], reason: BaseException) -> None:
        """Tell the agent that nobody waits any more. A command goes on.

        Whoever leaves by its own wish sees the work end, one second at the most.
        """
        if (payload.get("metadata") or {}).get("kind") == "command" or not self._inbox.link.connected:
            return
        if isinstance(reason, ProtocolError):
            await self._say_cancel(request)
            return
        await self._cancels.tell(self.address, partial(self._cancel, request))

    async def _cancel(self, request: Request) -> None:
        await self._say_cancel(request)
        with suppress(StreamingQueueError, LostError):
            while decode_event(await request.reply(), self.address)["type"] != MESSAGE:
                continue

    async def _say_cancel(self, request: Request) -> None:
        """What comes back, from the agent or, where nobody listens, from the server, ends the request."""
        with suppress(CommError):
            await self._inbox.link.publish(f"{self._subject}.cancel", reply=request.inbox)

    async def connect(self) -> None:
        """Connect to the server, and hear once of the agent, whoever answers. Raises like `send`."""
        await self._inbox.link.open()
        with suppress(CommError):
            await self.healthy()

    async def healthy(self) -> bool:
        """Whether an instance of the agent says that it takes questions. Raises what keeps it from saying so."""
        return (await self._probe({})).get("status") == "ok"

    async def describe(self) -> dict[str, Any]:
        """What an instance says of itself. Raises CommError where none does, or ours is not the credential it wants."""
        return await self._probe({CREDENTIAL_HEADER: "", **self._headers})

    async def _probe(self, headers: dict[str, str]) -> dict[str, Any]:
        request = await self._inbox.ask(f"{self._subject}.health", headers=headers)
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return decode_health(await request.reply(), self.address)
        except TimeoutError as error:
            raise SendTimeoutError(f"{self.address}: no sign of health within {PROBE_TIMEOUT_S:g} s") from error
        except LostError as lost:
            raise lost.error from None
        finally:
            self._inbox.forget(request)


def _reply(end: StreamEvent) -> Reply:
    reply = Reply(raw=end, text=end["data"])
    if "metadata" in end:
        reply["metadata"] = end["metadata"]
    return reply
