"""The host half: one agent's card, its short path and the SDK's routes, as one ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import orjson
from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.server.routes import create_jsonrpc_routes, create_rest_routes
from a2a.server.routes.common import ServerCallContextBuilder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from streaming_queue.comm import strict_json
from streaming_queue.comm.asgi import AsgiServer, cancelled_on_disconnect, read_body, serve
from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.execution import Executions
from streaming_queue.protocol_backend.a2a.dialect import CARD_PATH, VERSION_HEADER
from streaming_queue.protocol_backend.a2a.event_stream import plain_routes
from streaming_queue.protocol_backend.a2a.handler import AgentHandler
from streaming_queue.protocol_backend.a2a.native import NativeHandler, is_native
from streaming_queue.protocol_backend.a2a.own_card import CardDesk, Header, agent_card
from streaming_queue.protocol_backend.a2a.short_path import encode, short_rest, short_rpc

logger = logging.getLogger(__name__)

_VERSION_KEY = VERSION_HEADER.lower().encode()
_SHORT_PATHS = {"/": short_rpc, "/message:send": short_rest}
_JSON: Header = (b"content-type", b"application/json")


class _Principal(User):
    """Who asks, as the guard found out."""

    def __init__(self, principal: str | None) -> None:
        self._principal = principal

    @property
    def is_authenticated(self) -> bool:
        """Whether the guard asked for a credential."""
        return self._principal is not None

    @property
    def user_name(self) -> str:
        """The principal; empty where nobody is authenticated."""
        return self._principal or ""


class _ContextBuilder(ServerCallContextBuilder):
    """The SDK's context of a call, with our principal as its user."""

    def build(self, request: Request) -> ServerCallContext:
        """The context for one request."""
        principal = request.scope.get("state", {}).get("principal")
        return ServerCallContext(user=_Principal(principal), state={"headers": dict(request.headers)})


class A2AAgent:
    """A hosted agent, and its handle."""

    def __init__(
        self,
        agent_id: str,
        server: AsgiServer,
        executions: Executions | None,
        handler: AgentHandler | NativeHandler,
        stop_s: float,
    ) -> None:
        self.agent_id = agent_id
        self.base_url = server.base_url
        self._server = server
        self._executions = executions
        self._handler = handler
        self._stop_s = stop_s

    async def stop(self) -> None:
        """Fail what is under way as retryable and stop serving; idempotent, bounded even with a hung executor."""
        await asyncio.gather(self._stop_work(), self._server.stop())

    async def _stop_work(self) -> None:
        if self._executions is not None:
            await self._executions.aclose(self._stop_s)
        try:
            async with asyncio.timeout(self._stop_s):
                await self._handler.aclose()
        except TimeoutError:
            logger.warning("agent %r: its tasks do not end when they are cancelled", self.agent_id)


async def spawn(agent_id: str, host: str, port: int, executor: Any, backend: BaseCommBackend) -> A2AAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Raises like `comm.asgi.serve`."""
    options = backend.host_options
    native = is_native(executor)
    guarded = options.authenticator is not None
    handler: AgentHandler | NativeHandler
    executions: Executions | None = None
    if native:
        handler = NativeHandler(
            agent_id, executor, agent_card(agent_id, "http://localhost", guarded=guarded, call_extension=False)
        )
    else:
        executions = Executions(executor, grace_s=options.limits.disconnect_grace_s)
        handler = AgentHandler(agent_id, executions, backend.request)
    app = A2AApp(agent_id, handler, CardDesk(agent_id, guarded=guarded, call_extension=not native))
    server = await serve(
        app, host=host, port=port, options=options, name=f"agent {agent_id!r}", open_paths=("/health", CARD_PATH)
    )
    return A2AAgent(agent_id, server, executions, handler, options.limits.stop_s)


class A2AApp:
    """The ASGI application of one agent (docs/protocols/a2a.md)."""

    def __init__(self, agent_id: str, handler: AgentHandler | NativeHandler, card: CardDesk) -> None:
        self._agent_id = agent_id
        self._handler = handler
        self._card = card
        builder = _ContextBuilder()
        self._sdk = Starlette(
            routes=plain_routes(
                [
                    *create_jsonrpc_routes(handler, "/", context_builder=builder, enable_v0_3_compat=True),
                    *create_rest_routes(handler, context_builder=builder, enable_v0_3_compat=True),
                ]
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path, method = scope["path"], scope["method"]
        headers = dict(scope["headers"])
        if method == "POST":
            with cancelled_on_disconnect(scope):
                await self._post(scope, receive, send, headers)
        elif path == CARD_PATH and method in ("GET", "HEAD"):
            origin = f"{scope['scheme']}://{headers[b'host'].decode('latin-1')}"
            status, fields, body = self._card.response(origin, headers)
            await _respond(send, status, fields, body)
        elif path == "/health":
            await _json(send, 200, orjson.dumps({"status": "ok", "agent_id": self._agent_id}))
        else:
            with cancelled_on_disconnect(scope):
                await self._sdk(scope, receive, send)

    async def _post(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes]) -> None:
        body = await read_body(receive)
        if body is None:
            return
        short_of = _SHORT_PATHS.get(scope["path"])
        try:
            document = strict_json.loads(body) if body or short_of else None
        except ValueError:
            await _unreadable(send, is_rpc=scope["path"] == "/")
            return
        if short_of and isinstance(self._handler, AgentHandler) and headers.get(_VERSION_KEY, b"").startswith(b"1."):
            short = short_of(document)
            if short is not None:
                principal = scope["state"].get("principal")
                end = await self._handler.answer(short.payload, short.message_id, principal)
                status, media_type, answer = encode(end, short)
                await _json(send, status, answer, media_type)
                return
        await self._sdk(scope, _replay(body, receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more for the SDK, then what comes."""
    unread = True

    async def replayed() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


async def _unreadable(send: Send, *, is_rpc: bool) -> None:
    said = "the body is no valid JSON, or has a key twice"
    if is_rpc:
        error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": said}}
        await _json(send, 200, orjson.dumps(error))
    else:
        failure = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": said}}
        await _json(send, 400, orjson.dumps(failure))


async def _json(send: Send, status: int, body: bytes, media_type: bytes = b"application/json") -> None:
    await _respond(send, status, [(b"content-type", media_type), (b"content-length", b"%d" % len(body))], body)


async def _respond(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
