"""The host half: an executor behind `POST /`, conversations and a list of documents, as plain ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import orjson
from starlette.types import Receive, Scope, Send

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor, RequestContext
from streaming_queue.comm.host.agent import AsgiAgent
from streaming_queue.comm.host.asgi import AsgiServer, cancelled_on_disconnect, read_body, serve
from streaming_queue.comm.host.execution import HEARTBEAT_S, Executions
from streaming_queue.errors import ConnectError, ProtocolError, StreamingQueueError, error_event
from streaming_queue.messages import StreamEvent
from streaming_queue.protocol_backend.agora import routine
from streaming_queue.protocol_backend.agora.conversations import Conversation, Conversations
from streaming_queue.protocol_backend.agora.document import HASH, HEX_HASH, SOURCE
from streaming_queue.protocol_backend.agora.envelope import (
    JSON,
    NEGOTIATION,
    REJECTED,
    SUCCESS,
    Request,
    decode_request,
    encode_response,
    failure,
    success,
)
from streaming_queue.protocol_backend.agora.manners import (
    NATURAL_LANGUAGE,
    NEGOTIATING,
    QUESTION_ANSWERING,
    Ask,
    Cancel,
    Following,
    Manner,
    Say,
)
from streaming_queue.protocol_backend.agora.peer import AGENT_ID_HEADER, LISTINGS
from streaming_queue.protocol_backend.agora.sources import Sources

_JSON_HEADER = (b"content-type", JSON.encode())
_LATE_START = {"type": "http.response.start", "status": 200, "headers": [_JSON_HEADER]}
_HEARTBEAT = {"type": "http.response.body", "body": b"\n", "more_body": True}
"""White space before JSON means nothing (RFC 8259, 2)."""
_LISTING = orjson.dumps({HASH: [SOURCE]})
_LISTING_PATHS = frozenset(f"/{path}" for path in LISTINGS)
_CONVERSATIONS = "/conversations/"
_MANNERS: Mapping[str | None, Manner] = {
    None: NATURAL_LANGUAGE,
    HASH: QUESTION_ANSWERING,
    HEX_HASH: QUESTION_ANSWERING,
    NEGOTIATION: NEGOTIATING,
}


class AgoraAgent(AsgiAgent):
    """A hosted agent, and its handle."""

    def __init__(self, agent_id: str, app: AgoraApp, server: AsgiServer, stop_s: float) -> None:
        super().__init__(agent_id, app.executions, server, stop_s)
        self._app = app

    async def stop(self) -> None:
        """Stop, and take no more documents from others."""
        await asyncio.gather(super().stop(), self._app.sources.aclose())


async def spawn(
    agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend, *, sources: Sources
) -> AgoraAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Raises like `comm.host.asgi.serve`."""
    options = backend.host_options
    executions = Executions(executor, grace_s=options.limits.disconnect_grace_s)
    app = AgoraApp(agent_id, executions, backend.request, sources)
    name = f"agent {agent_id!r}"
    server = await serve(app, host=host, port=port, options=options, name=name, open_paths=_LISTING_PATHS)
    return AgoraAgent(agent_id, app, server, options.limits.stop_s)


class AgoraApp:
    """The ASGI application of one agent (docs/protocols/agora.md); `request` makes the context of a message."""

    def __init__(
        self, agent_id: str, executions: Executions, request: Callable[..., RequestContext], sources: Sources
    ) -> None:
        self.executions = executions
        self.sources = sources
        self._agent_id = agent_id
        self._request = request
        self._conversations = Conversations()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what is wrong with it is answered as JSON."""
        path, method = scope["path"], scope["method"]
        try:
            if path == "/":
                if await _allowed(method, ("POST",), send):
                    await self._open(scope, receive, send)
            elif path in _LISTING_PATHS:
                if await _allowed(method, ("GET", "HEAD"), send):
                    await self._list(send)
            elif path.startswith(_CONVERSATIONS):
                if await _allowed(method, ("POST", "DELETE"), send):
                    await self._continue(path.removeprefix(_CONVERSATIONS), scope, receive, send)
            else:
                await _send(send, 404, failure("there is nothing at this path: POST / takes messages"))
        except ProtocolError as error:
            await _send(send, 400, failure(str(error)))

    async def _list(self, send: Send) -> None:
        status, body = 200, _LISTING
        if not self.executions.ready:
            about_to_stop = ConnectError(
                f"agent {self._agent_id!r} takes no questions: it is not ready, or about to stop"
            )
            status, body = 503, orjson.dumps({"error": error_event(about_to_stop)})
        await _send_body(send, status, body, (AGENT_ID_HEADER.encode(), quote(self._agent_id).encode()))

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        request = decode_request(body)
        manner = await self._manner(request)
        if manner is None:
            reason = "Unsupported protocol: it is not ours, and not to be had from a source that is allowed here"
            await _send(send, 200, failure(reason, REJECTED))
            return
        conversation = None
        if request.multiround:
            conversation = self._conversations.begin(request.hash, manner, scope["state"].get("principal"))
        await self._answer(request, manner, conversation, scope, send)

    async def _manner(self, request: Request) -> Manner | None:
        """The way that the request wants; None where we do not know it."""
        manner = _MANNERS.get(request.hash)
        if manner is None and request.hash is not None:
            document = await self.sources.find(request.hash, request.sources)
            manner = None if document is None else Following(document)
        return manner

    async def _continue(self, conversation_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        conversation = self._conversations.find(conversation_id, scope["state"].get("principal"))
        if scope["method"] == "DELETE":
            if conversation is not None:
                self._conversations.end(conversation)
            await _send(send, 200, {"status": SUCCESS})
            return
        body = await read_body(receive)
        if body is None:
            return
        if conversation is None:
            await _send(send, 404, failure("there is no such conversation, or it has ended"))
            return
        request = decode_request(body)
        if request.hash not in (None, conversation.hash):
            raise ProtocolError("a conversation keeps the protocol it began with", retryable=False)
        await self._answer(request, conversation.manner, conversation, scope, send)

    async def _answer(
        self, request: Request, manner: Manner, conversation: Conversation | None, scope: Scope, send: Send
    ) -> None:
        context_id, rounds = (None, {}) if conversation is None else (conversation.id, conversation.told)
        begun = False
        try:
            match manner.read(request.body):
                case Ask(payload):
                    end, begun = await self._ask(payload, context_id, scope, send)
                    response = manner.tell(end)
                case Cancel(key):
                    cancelled = await self.executions.cancel(key, principal=scope["state"].get("principal"))
                    response = success(routine.write_cancelled(cancelled))
                case Say(text):
                    response = success(text)
        except StreamingQueueError as error:
            response = manner.refuse(error)
        body = encode_response(response | rounds)
        if begun:
            await send({"type": "http.response.body", "body": body})
        else:
            await _send_body(send, 200, body)

    async def _ask(
        self, payload: dict[str, Any], context_id: str | None, scope: Scope, send: Send
    ) -> tuple[StreamEvent, bool]:
        """Have the executor answer; the end, and whether signs of life have begun the response."""
        principal = scope["state"].get("principal")
        context = self._request(self._agent_id, payload, principal=principal, context_id=context_id)
        begun = False
        with cancelled_on_disconnect(scope), self.executions.attach(context) as execution:
            while (end := await execution.ended_within(HEARTBEAT_S)) is None:
                if not begun:
                    await send(_LATE_START)
                    begun = True
                await send(_HEARTBEAT)
        return end, begun


async def _allowed(method: str, methods: tuple[str, ...], send: Send) -> bool:
    if method in methods:
        return True
    allowed = ", ".join(methods)
    document = encode_response(failure(f"this path takes {allowed}"))
    await _send_body(send, 405, document, (b"allow", allowed.encode()))
    return False


async def _send(send: Send, status: int, document: Mapping[str, Any]) -> None:
    await _send_body(send, status, encode_response(document))


async def _send_body(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    fields = [_JSON_HEADER, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
