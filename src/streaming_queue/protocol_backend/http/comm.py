"""The client half of http; `host.py` is the host half. Both use `codec.py`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import HttpBackend
from streaming_queue.comm.client.exchange import ExchangeBackend
from streaming_queue.comm.client.http import HttpExchange, HttpPeer, peer_date, read_body, response_error
from streaming_queue.comm.client.lines import read_lines
from streaming_queue.comm.payload import encode_request
from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.comm.wire_errors import excerpt
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import Reply, StreamEvent, answer_event
from streaming_queue.protocol_backend.http.answers import decode_answer, decode_event
from streaming_queue.protocol_backend.http.codec import JSON, NDJSON

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.http.host import HttpAgent

MAX_HEALTH_BYTES = 64 * 1024


class Peer(HttpPeer):
    """An agent, and the URL that takes messages."""

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self.message = self.url / "message"


class HttpCommBackend(ExchangeBackend, HttpBackend[Peer]):
    """Agents at `http://` or `https://` addresses; one session keeps connections alive.

    An answer has no time limit: the caller cancels `send`. The backend follows no redirects and uses no proxies from
    the environment. A credential goes to its agent's address only.
    """

    name = "http"
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About("GET /health", "HTTP/1.1, RFC 9112", "https://www.rfc-editor.org/rfc/rfc9112")

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        return Peer(agent_id, address, options, self._session)

    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> Question:
        return Question(self._peer(dst_id), payload, self._cancels)

    async def _probe(self, peer: Peer) -> bool:
        """Whether GET `/health` answers 200 and `"status": "ok"`."""
        document, _ = await _read_health(peer)
        return document.get("status") == "ok"

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The answer to GET `/health`. A cancel of an unknown key checks that the agent accepts our credential."""
        peer = self._peer(agent_id)
        with peer.translated:
            document, date = await _read_health(peer)
            async with _post_cancel(peer, f"describe/{uuid.uuid4().hex}") as response:
                if response.status in (401, 403):
                    body = await read_body(response, peer.address, MAX_HEALTH_BYTES)
                    raise response_error(response, body, peer.address)
        return document if date is None else {**document, "date": date}

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> HttpAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        return await self._host(_host_half, agent_id, host, port, executor)


class Question(HttpExchange[Peer]):
    """POST `/message`; the host finds the work again by the idempotency key."""

    async def ask(self) -> Reply:
        """The answer; `raw` is its JSON."""
        async with self._post() as response:
            return await self._read(response)

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The lines of a streamed answer; one whole answer from an agent that does not stream."""
        async with self._post(f"{NDJSON}, {JSON}") as response:
            if response.status != 200 or response.content_type != NDJSON:
                yield answer_event(await self._read(response))
                return
            async with aclosing(read_lines(response, self.address)) as batches:
                async for lines in batches:
                    for line in lines:
                        if line.strip():
                            yield decode_event(line, self.address)

    def _post(self, accept: str = JSON) -> Any:
        body, headers = encode_request(self.payload)
        headers["Accept"] = accept
        return self.peer.request("POST", self.peer.message, body, headers)

    async def _read(self, response: aiohttp.ClientResponse) -> Reply:
        return decode_answer(response, await read_body(response, self.address), self.address)

    async def cancel(self) -> None:
        """POST the key to `/cancel`."""
        async with _post_cancel(self.peer, str(self.key)) as response:
            await response.read()


async def _read_health(peer: Peer) -> tuple[dict[str, Any], datetime | None]:
    """The document at `/health`, and the agent's clock. Raises the library's errors and ProtocolError."""
    url = peer.url / "health"
    async with peer.request("GET", url) as response:
        body = await read_body(response, peer.address, MAX_HEALTH_BYTES)
        if response.status != 200:
            raise response_error(response, body, str(url))
        document = read_or_none(body)
        if not isinstance(document, dict):
            raise ProtocolError(f"{url}: the answer is not a JSON object{excerpt(body)}")
        return document, peer_date(response.headers)


def _post_cancel(peer: Peer, key: str) -> Any:
    return peer.request("POST", peer.url / "cancel", orjson.dumps({"idempotency_key": key}))


def _host_half() -> Callable[..., Awaitable[HttpAgent]]:
    from streaming_queue.protocol_backend.http.host import spawn

    return spawn
