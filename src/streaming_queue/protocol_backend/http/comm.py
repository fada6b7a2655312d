"""The client half, and the door to the host half (`host.py`); both speak through `codec.py`."""

from __future__ import annotations

import asyncio
import io
import logging
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
from yarl import URL

from streaming_queue.comm.base import About, BaseCommBackend, Capabilities, EndpointOptions
from streaming_queue.comm.http_client import excerpt, is_broken, open_session, peer_date, read_body, refusal, translate
from streaming_queue.comm.recovery import Recovery
from streaming_queue.errors import BackendClosedError, ProtocolError, StreamingQueueError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.http.codec import JSON, NDJSON, encode_request
from streaming_queue.protocol_backend.http.responses import read_answer, read_events
from streaming_queue.protocol_backend.http.target import Target

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.http.host import HttpAgent

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 1.0
CANCEL_TIMEOUT_S = 1.0
MAX_HEALTH_BYTES = 64 * 1024

_BYTES_AT_ONCE = 1024 * 1024


class HttpCommBackend(BaseCommBackend):
    """Agents behind `http://` or `https://` addresses; one session, its connections kept alive.

    There is no limit on an answer's time: the caller cancels `send`. Redirects are not followed, proxies in the
    environment not used, and a credential goes to its agent's address only.
    """

    name = "http"
    schemes = ("http", "https")
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About("GET /health", "HTTP/1.1, RFC 9112", "https://www.rfc-editor.org/rfc/rfc9112")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._targets: dict[str, Target] = {}
        self._session: aiohttp.ClientSession | None = None
        self._agents: list[HttpAgent] = []
        self._cancels: set[asyncio.Task[None]] = set()
        self._closed = False

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Remember where an agent is; idempotent. Raises ConfigError on an address or a header that cannot be used."""
        target = Target.of(agent_id, address, self.options.get(agent_id, EndpointOptions()))
        await super().register_endpoint(agent_id, address)
        self._targets[agent_id] = target

    def _target(self, agent_id: str) -> Target:
        self._check_open()
        self.endpoint(agent_id)
        return self._targets[agent_id]

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosedError("the http backend is closed")

    def _open_session(self) -> aiohttp.ClientSession:
        self._check_open()
        if self._session is None:
            self._session = open_session()
        return self._session

    def _post(
        self, target: Target, url: URL, body: bytes, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        merged = target.headers.copy()
        merged.update(headers)
        data = body if len(body) <= _BYTES_AT_ONCE else io.BytesIO(body)
        return self._open_session().post(url, data=data, headers=merged, ssl=target.ssl, allow_redirects=False)

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """POST the payload to the agent's `/message`; `raw` is the JSON of its answer.

        A connection that breaks is made anew if there is an idempotency key: the agent may still be at it, and by its
        key the message comes back to the work under way.
        """
        del src_id
        target = self._target(dst_id)
        body, headers = encode_request(payload)
        recovery = Recovery(keyed="idempotency-key" in headers, broken=is_broken)
        try:
            with self._translated(target.address):
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
        target = self._target(dst_id)
        body, headers = encode_request(payload)
        headers["Accept"] = f"{NDJSON}, {JSON}"
        recovery = Recovery(keyed="idempotency-key" in headers, broken=is_broken)
        told = 0
        ended = False
        try:
            with self._translated(target.address):
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
        metadata = payload.get("metadata") or {}
        key = metadata.get("idempotency_key")
        if metadata.get("kind") == "command" or not isinstance(key, str) or self._closed:
            return
        task = asyncio.create_task(self._post_cancel(target, key), name=f"cancel:{target.address}")
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)

    async def _post_cancel(self, target: Target, key: str) -> None:
        try:
            async with (
                asyncio.timeout(CANCEL_TIMEOUT_S),
                self._post(target, target.cancel, orjson.dumps({"idempotency_key": key}), {}) as response,
            ):
                await response.read()
        except (aiohttp.ClientError, OSError, BackendClosedError) as error:
            logger.debug("%s: the cancel did not arrive (%s); its grace ends the question", target.address, error)

    async def health_check(self, agent_id: str) -> bool:
        """Whether GET `/health` answers 200 and `"status": "ok"` within one second."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                document, _ = await self._read_health(self._target(agent_id))
                return document.get("status") == "ok"
        except Exception as error:
            logger.debug("agent %s is not healthy: %r", agent_id, error)
            return False

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """What GET `/health` answers, if the agent takes our credential: a cancel of nothing shows that."""
        target = self._target(agent_id)
        with self._translated(target.address):
            document, date = await self._read_health(target)
            nothing = orjson.dumps({"idempotency_key": f"describe/{uuid.uuid4().hex}"})
            async with self._post(target, target.cancel, nothing, {}) as response:
                if response.status in (401, 403):
                    body = await read_body(response, target.address, MAX_HEALTH_BYTES)
                    raise refusal(response.status, body, None, target.address)
        return document if date is None else {**document, "date": date}

    async def _read_health(self, target: Target) -> tuple[dict[str, Any], datetime | None]:
        """The document at `/health`, and the agent's clock. Raises what the library does, and ProtocolError."""
        async with self._open_session().get(
            target.health, headers=target.headers, ssl=target.ssl, allow_redirects=False
        ) as response:
            body = await read_body(response, target.address, MAX_HEALTH_BYTES)
            if response.status != 200:
                raise refusal(response.status, body, None, str(target.health))
            try:
                document = orjson.loads(body)
            except orjson.JSONDecodeError:
                document = None
            if not isinstance(document, dict):
                raise ProtocolError(f"{target.health}: what it answers is no JSON object{excerpt(body)}")
            return document, peer_date(response.headers)

    async def close(self) -> None:
        """Stop every agent hosted here and give up all connections; messages under way fail."""
        self._closed = True
        agents, self._agents = self._agents, []
        await asyncio.gather(*(agent.stop() for agent in agents))
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=CANCEL_TIMEOUT_S)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> HttpAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        self._check_open()
        spawn = await asyncio.to_thread(_host_half)
        agent: HttpAgent = await spawn(agent_id, host, port, executor, self)
        self._agents.append(agent)
        return agent

    @contextmanager
    def _translated(self, address: str) -> Iterator[None]:
        """Turn what the library raises into our errors."""
        try:
            yield
        except StreamingQueueError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            if self._closed:
                raise BackendClosedError(f"{address}: the http backend was closed before the answer") from error
            raise translate(error, address) from error


def _host_half() -> Any:
    """Its server is slow to import and reads files: not in the loop, and not where nothing is hosted."""
    from streaming_queue.protocol_backend.http.host import spawn

    return spawn
