"""The client half, and the door to the host half (`host.py`); both speak through `codec.py`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from yarl import URL

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import HttpBackend
from streaming_queue.comm.client.cancels import cancel_key
from streaming_queue.comm.client.http import excerpt, is_broken, peer_date, read_body, refusal, told_error
from streaming_queue.comm.client.reconnect import Reconnect
from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.errors import ProtocolError, StreamingQueueError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.http.codec import JSON, NDJSON, encode_request
from streaming_queue.protocol_backend.http.responses import read_answer, read_events
from streaming_queue.protocol_backend.http.target import Target

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.http.host import HttpAgent

MAX_HEALTH_BYTES = 64 * 1024


class HttpCommBackend(HttpBackend[Target]):
    """Agents behind `http://` or `https://` addresses; one session, its connections kept alive.

    There is no limit on an answer's time: the caller cancels `send`. Redirects are not followed, proxies in the
    environment not used, and a credential goes to its agent's address only.
    """

    name = "http"
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About("GET /health", "HTTP/1.1, RFC 9112", "https://www.rfc-editor.org/rfc/rfc9112")

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Target:
        return Target.of(agent_id, address, options)

    def _post(self, target: Target, url: URL, body: bytes, headers: Mapping[str, str]) -> Any:
        merged = target.headers.copy()
        merged.update(headers)
        return self._session.request("POST", url, headers=merged, tls=target.tls, body=body)

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """POST the payload to the agent's `/message`; `raw` is the JSON of its answer.

        A connection that breaks is made anew if there is an idempotency key: the agent may still be at it, and by its
        key the message comes back to the work under way.
        """
        del src_id
        target = self._peer(dst_id)
        body, headers = encode_request(payload)
        recovery = Reconnect(keyed="idempotency-key" in headers, broken=is_broken)
        try:
            with self._session.translated(target.address):
                while True:
                    with recovery:
                        return await self._ask(target, body, headers)
        except asyncio.CancelledError:
            await self._cancel(target, payload)
            raise

    async def _ask(self, target: Target, body: bytes, headers: Mapping[str, str]) -> Reply:
        async with self._post(target, target.message, body, headers) as response:
            return await read_answer(response, target.address)

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Like `send`, with the agent's events as they come; after a broken connection those that are new."""
        del src_id
        target = self._peer(dst_id)
        body, headers = encode_request(payload)
        headers["Accept"] = f"{NDJSON}, {JSON}"
        recovery = Reconnect(keyed="idempotency-key" in headers, broken=is_broken)
        told = 0
        ended = False
        try:
            with self._session.translated(target.address):
                while not ended:
                    with recovery:
                        async with (
                            self._post(target, target.message, body, headers) as response,
                            aclosing(read_events(response, target.address)) as events,
                        ):
                            seen = 0
                            async for event in events:
                                ended = event["type"] == MESSAGE
                                seen += 1
                                if ended or seen > told:
                                    told = max(told, seen)
                                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            if not ended:
                await self._cancel(target, payload)
            raise

    async def _cancel(self, target: Target, payload: Mapping[str, Any]) -> None:
        """Tell the agent that nobody waits for its answer any more; one second at the most."""
        if (key := cancel_key(payload)) is not None:
            await self._cancels.tell(target.address, partial(self._post_cancel, target, key))

    async def _post_cancel(self, target: Target, key: str) -> None:
        body = orjson.dumps({"idempotency_key": key})
        with self._session.translated(target.address):
            async with self._post(target, target.cancel, body, {}) as response:
                await response.read()

    async def _probe(self, peer: Target) -> bool:
        """Whether GET `/health` answers 200 and `"status": "ok"`."""
        document, _ = await self._read_health(peer)
        return document.get("status") == "ok"

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """What GET `/health` answers, if the agent takes our credential: a cancel of nothing shows that."""
        target = self._peer(agent_id)
        with self._session.translated(target.address):
            document, date = await self._read_health(target)
            nothing = orjson.dumps({"idempotency_key": f"describe/{uuid.uuid4().hex}"})
            async with self._post(target, target.cancel, nothing, {}) as response:
                if response.status in (401, 403):
                    body = await read_body(response, target.address, MAX_HEALTH_BYTES)
                    raise _told(body, target.address) or refusal(response.status, body, None, target.address)
        return document if date is None else {**document, "date": date}

    async def _read_health(self, target: Target) -> tuple[dict[str, Any], datetime | None]:
        """The document at `/health`, and the agent's clock. Raises what the library does, and ProtocolError."""
        async with self._session.request("GET", target.health, headers=target.headers, tls=target.tls) as response:
            body = await read_body(response, target.address, MAX_HEALTH_BYTES)
            if response.status != 200:
                raise refusal(response.status, body, None, str(target.health))
            document = read_or_none(body)
            if not isinstance(document, dict):
                raise ProtocolError(f"{target.health}: what it answers is no JSON object{excerpt(body)}")
            return document, peer_date(response.headers)

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> HttpAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        return await self._host(_host_half, agent_id, host, port, executor)


def _told(body: bytes, address: str) -> StreamingQueueError | None:
    """The error that a body tells, as one of our hosts would."""
    try:
        return told_error(orjson.loads(body), None, address)
    except orjson.JSONDecodeError:
        return None


def _host_half() -> Callable[..., Awaitable[HttpAgent]]:
    from streaming_queue.protocol_backend.http.host import spawn

    return spawn
