"""An agent as it is asked: by its subject, over an inbox."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

import orjson

from streaming_queue.comm.context import heard
from streaming_queue.errors import CommError, ConnectError, ProtocolError, StreamingQueueError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.nats.codec import HEARTBEAT, STREAM, STREAM_HEADER, decode_event, encode_request
from streaming_queue.protocol_backend.nats.inbox import Inbox
from streaming_queue.protocol_backend.nats.request import LostError, Request

CANCEL_TIMEOUT_S = 1.0
PROBE_TIMEOUT_S = 1.0
PATIENCE_S = 5.0
"""How long a question that is to be asked again waits for a server that went, and for the agent to be back there."""

_KEY = "idempotency-key"


class Peer:
    """One agent; `headers` ride along with every message."""

    def __init__(self, subject: str, inbox: Inbox, headers: Mapping[str, str]) -> None:
        self.address = f"{inbox.link.server}/{subject}"
        self._subject = subject
        self._inbox = inbox
        self._headers = headers
        self._cancels: set[asyncio.Task[None]] = set()

    async def send(self, payload: Mapping[str, Any]) -> Reply:
        """The answer; `raw` is its event.

        A message that was lost is asked again, once, if it has an idempotency key: who works on it by that key, or has
        its answer, gives it. Raises like `BaseCommBackend.send`.
        """
        body, headers = self._encode(payload)
        try:
            end = await self._ask(payload, body, headers)
        except LostError as lost:
            if _KEY not in headers:
                raise lost.error from None
            end = await self._ask_again(payload, body, headers)
        reply = Reply(raw=end, text=end["data"])
        if "metadata" in end:
            reply["metadata"] = end["metadata"]
        return reply

    async def _ask(self, payload: Mapping[str, Any], body: bytes, headers: Mapping[str, str]) -> StreamEvent:
        request = await self._inbox.ask(self._subject, body, headers)
        try:
            while True:
                event = decode_event(await request.reply(), self.address)
                heard()
                if event["type"] == MESSAGE:
                    return event
        except asyncio.CancelledError:
            await self._leave(request, payload)
            raise
        except ProtocolError:
            await self._say_cancel(request)
            raise
        finally:
            self._inbox.forget(request)

    async def _ask_again(self, payload: Mapping[str, Any], body: bytes, headers: Mapping[str, str]) -> StreamEvent:
        loop = asyncio.get_running_loop()
        until = loop.time() + (0.0 if self._inbox.link.connected else PATIENCE_S)
        pause_s = 0.05
        while True:
            try:
                return await self._ask(payload, body, headers)
            except LostError as lost:
                raise lost.error from None
            except ConnectError:
                if loop.time() + pause_s > until:
                    raise
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
            pause_s = min(2 * pause_s, 0.5)

    async def stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        """The events as they come, to the whole answer; raises like `send`."""
        body, headers = self._encode(payload)
        headers[STREAM_HEADER] = STREAM
        request = await self._inbox.ask(self._subject, body, headers)
        kind = None
        try:
            while kind != MESSAGE:
                event = decode_event(await request.reply(), self.address)
                heard()
                kind = event["type"]
                if kind != HEARTBEAT:
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            if kind != MESSAGE:
                await self._leave(request, payload)
            raise
        except ProtocolError:
            await self._say_cancel(request)
            raise
        except LostError as lost:
            raise lost.error from None
        finally:
            self._inbox.forget(request)

    def _encode(self, payload: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
        body, headers = encode_request(payload)
        headers.update(self._headers)
        return body, headers

    # --- leaving ---

    async def _leave(self, request: Request, payload: Mapping[str, Any]) -> None:
        """Tell the agent that nobody waits any more, and see it end; one second at the most. A command goes on."""
        if (payload.get("metadata") or {}).get("kind") == "command" or not self._inbox.link.connected:
            return
        task = asyncio.create_task(self._cancel(request), name=f"cancel:{self.address}")
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)

    async def _cancel(self, request: Request) -> None:
        await self._say_cancel(request)
        with suppress(StreamingQueueError, LostError, TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                while decode_event(await request.reply(), self.address)["type"] != MESSAGE:
                    continue

    async def _say_cancel(self, request: Request) -> None:
        """What comes back, from the agent or, where nobody listens, from the server, ends the request."""
        with suppress(CommError):
            await self._inbox.link.publish(f"{self._subject}.cancel", reply=request.inbox)

    async def connect(self) -> None:
        """Connect to the server, and hear once of the agent, whoever answers. Raises like `send`."""
        await self._inbox.link.open()
        with suppress(CommError, LostError, TimeoutError, ValueError):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self.healthy()

    async def healthy(self) -> bool:
        """Whether an instance of the agent says that it takes questions. Raises when nobody says anything."""
        request = await self._inbox.ask(f"{self._subject}.health")
        try:
            document = orjson.loads(await request.reply())
        finally:
            self._inbox.forget(request)
        return isinstance(document, dict) and document.get("status") == "ok"

    async def close(self) -> None:
        """Wait for the cancels under way; bounded."""
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=CANCEL_TIMEOUT_S)
