"""The host half: an executor behind a WebSocket, and `GET /health` on the same port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sized
from email.utils import formatdate
from http import HTTPStatus

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from streaming_queue.comm.base import BaseCommBackend, HostLimits
from streaming_queue.comm.context import Executor
from streaming_queue.comm.host.admission import Admission, Refusal, too_many_connections
from streaming_queue.comm.host.agent import HostedAgent
from streaming_queue.comm.host.listener import BACKLOG, ListeningSocket, listen
from streaming_queue.comm.payload import malformed
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.ws.connection import CLOSE_TIMEOUT_S, HostSide, library_log
from streaming_queue.protocol_backend.ws.conversation import Conversation
from streaming_queue.protocol_backend.ws.frames import LIMIT_HEADER, SUBPROTOCOL

logger = logging.getLogger(__name__)

_ONCE = ("Host", "Origin", "Authorization")


async def spawn(agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend) -> WsAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Raises like `listen`."""
    listener = await listen(host, port, backend.host_options, f"agent {agent_id!r}")
    agent = WsAgent(agent_id, listener, executor, backend)
    try:
        await agent.start(listener)
    except BaseException:
        listener.socket.close()
        raise
    return agent


class WsAgent(HostedAgent):
    """A hosted agent, and its handle."""

    def __init__(self, agent_id: str, listener: ListeningSocket, executor: Executor, backend: BaseCommBackend) -> None:
        super().__init__(agent_id, executor, backend)
        self.base_url = f"{'wss' if self._options.tls else 'ws'}://{listener.authority}"
        self._connections: set[HostSide] = set()
        self._conversations: set[Conversation] = set()
        self._server: Server

    async def start(self, listener: ListeningSocket) -> None:
        """Serve the connections to `listener`."""
        options, open_connections = self._options, self._connections

        class Connection(HostSide):
            connections = open_connections

        admission = Admission(options, hosts=listener.hosts, any_address=listener.any_address)
        handshake = Handshake(admission, options.limits, open_connections, self._health)
        self._server = await serve(
            self._converse,
            sock=listener.socket,
            backlog=BACKLOG,
            ssl=options.tls,
            subprotocols=[SUBPROTOCOL],
            compression=None,
            process_request=handshake.on_request,
            process_response=handshake.on_response,
            server_header=None,
            open_timeout=options.limits.body_deadline_s,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=options.limits.body_bytes,
            logger=library_log,
            create_connection=Connection,
        )

    def _health(self) -> dict[str, str]:
        return {"status": "ok" if self._executions.ready else "draining", "agent_id": self.agent_id}

    async def _converse(self, connection: ServerConnection) -> None:
        if not isinstance(connection, HostSide):
            raise TypeError("the server must create connections of our own class")
        limit = self._options.limits.connections
        conversation = Conversation(self.agent_id, connection, self._executions, self._request, limit)
        self._conversations.add(conversation)
        try:
            await conversation.serve()
        finally:
            self._conversations.discard(conversation)

    async def _stop(self) -> None:
        self._server.close(close_connections=False)
        await asyncio.gather(self._executions.aclose(self._options.limits.stop_s), self._hang_up())

    async def _hang_up(self) -> None:
        """Send the known answers, close every connection, and cut off the connections that stay open."""
        goodbyes = [asyncio.create_task(conversation.close()) for conversation in self._conversations]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=0.8 * self._options.limits.stop_s)
        for connection in list(self._connections):
            connection.give_up("the agent was stopped")
        for goodbye in goodbyes:
            goodbye.cancel()
        await asyncio.gather(*goodbyes, return_exceptions=True)
        try:
            async with asyncio.timeout(0.2 * self._options.limits.stop_s):
                await self._server.wait_closed()
        except TimeoutError:
            logger.warning("agent %r: connections do not end after they were cut off", self.agent_id)


class Handshake:
    """A host's checks before a connection becomes a WebSocket, for the library's two hooks; every refusal is JSON.

    `health` gives the agent's state, `connections` are the open ones.
    """

    def __init__(
        self, admission: Admission, limits: HostLimits, connections: Sized, health: Callable[[], dict[str, str]]
    ) -> None:
        self._admission = admission
        self._limits = limits
        self._connections = connections
        self._health = health

    async def on_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse the request, answer a request for `/health`, or let the library go on (None)."""
        refusal = self._check(request.headers)
        if refusal is not None:
            return _refuse(refusal)
        path = request.path.partition("?")[0]
        if path == "/health" and request.method == "GET":
            state = self._health()
            return _json(200 if state["status"] == "ok" else 503, orjson.dumps(state))
        if path != "/":
            return _refuse(Refusal(404, ConfigError("there is nothing at this path; known are /, /health")))
        found = await self._admission.identify(request.headers.get("Authorization", "").encode("latin-1"))
        if isinstance(found, Refusal):
            return _refuse(found)
        if isinstance(connection, HostSide):
            connection.principal = found
        return None

    def on_response(self, connection: ServerConnection, request: Request, response: Response) -> Response | None:
        """Add the header with the limit of a request, or turn the library's refusal into ours."""
        del connection, request
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers[LIMIT_HEADER] = str(self._limits.body_bytes)
            return None
        if response.headers.get("Content-Type") == "application/json":
            return None
        said = bytes(response.body).decode().strip().replace("\n", " ")
        refusal = _refuse(Refusal(response.status_code, malformed(said)))
        for name in ("Allow", "Upgrade"):
            if name in response.headers:
                refusal.headers[name] = response.headers[name]
        return refusal

    def _check(self, headers: Headers) -> Refusal | None:
        if len(self._connections) > self._limits.connections:
            return too_many_connections()
        host, origin, _ = (headers.get_all(name) for name in _ONCE)
        if len(host) != 1 or any(len(headers.get_all(name)) > 1 for name in _ONCE):
            return Refusal(400, malformed(f"a request needs exactly one Host, and {', '.join(_ONCE)} at most once"))
        return self._admission.check(host[0].encode("latin-1"), origin[0].encode("latin-1") if origin else None)


def _refuse(refusal: Refusal) -> Response:
    return _json(refusal.status, refusal.body, refusal.headers)


def _json(status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Response:
    fields = Headers(Date=formatdate(usegmt=True), Connection="close")
    fields["Content-Type"] = "application/json"
    fields["Content-Length"] = str(len(body))
    for name, value in headers:
        fields[name.decode("latin-1")] = value.decode("latin-1")
    return Response(status, HTTPStatus(status).phrase, fields, body)
