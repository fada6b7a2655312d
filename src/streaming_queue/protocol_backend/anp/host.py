"""The host half: an executor behind JSON-RPC, and the documents that describe it, as plain ASGI."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import orjson
from starlette.types import Receive, Scope, Send

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor, RequestContext
from streaming_queue.comm.host.agent import AsgiAgent
from streaming_queue.comm.host.asgi import AsgiServer, cancelled_on_disconnect, read_body, serve
from streaming_queue.comm.host.execution import HEARTBEAT_S, Execution, Executions
from streaming_queue.comm.payload import decode_payload
from streaming_queue.errors import ConfigError, ProtocolError, RateLimitedError, StreamingQueueError, error_event
from streaming_queue.protocol_backend.anp.description import (
    AD_PATH,
    ASK,
    CANCEL,
    EVENT_STREAM,
    INTERFACE_PATH,
    RPC_PATH,
    agent_description,
    interface,
)
from streaming_queue.protocol_backend.anp.gate import Caller, DeniedError, Gate, Request
from streaming_queue.protocol_backend.anp.identity import Identity
from streaming_queue.protocol_backend.anp.rpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    BadCallError,
    Call,
    decode_call,
    encode_end,
    encode_error,
    encode_event,
    encode_result,
)

Header = tuple[bytes, bytes]

TRUSTED = "name the callers that may ask in anp.trusted"
_JSON: Header = (b"content-type", b"application/json")
_HEARTBEAT = {"type": "http.response.body", "body": b"\n", "more_body": True}
"""White space before JSON means nothing (RFC 8259, 2)."""
_STREAM: tuple[Header, ...] = (
    (b"content-type", EVENT_STREAM.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class AnpAgent(AsgiAgent):
    """A hosted agent, and its handle. `identity` is whom it says it is."""

    def __init__(
        self, agent_id: str, identity: Identity, executions: Executions, server: AsgiServer, stop_s: float
    ) -> None:
        super().__init__(agent_id, executions, server, stop_s)
        self.identity = identity


async def spawn(
    agent_id: str,
    host: str,
    port: int,
    executor: Executor,
    backend: BaseCommBackend,
    *,
    gate: Gate,
    identity: Callable[[int], Identity],
) -> AnpAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Raises like `comm.host.asgi.serve`.

    `identity` gives the agent's, once its port is known. Other machines may reach an agent whose callers are all known.
    """
    options = replace(backend.host_options, allow_public=backend.host_options.allow_public or not gate.trust.anyone)
    executions = Executions(executor, grace_s=options.limits.disconnect_grace_s)
    app = AnpAgentApp(agent_id, executions, backend.request, gate, "https" if options.tls else "http")
    name = f"agent {agent_id!r}"
    server = await serve(app, host=host, port=port, options=options, name=name, remedy=TRUSTED)
    app.identity = identity(server.port)
    return AnpAgent(agent_id, app.identity, executions, server, options.limits.stop_s)


class AnpAgentApp:
    """The ASGI application of one agent (docs/protocols/anp.md); `request` makes the context of a message."""

    def __init__(
        self, agent_id: str, executions: Executions, request: Callable[..., RequestContext], gate: Gate, scheme: str
    ) -> None:
        self.identity: Identity | None = None
        self._agent_id = agent_id
        self._executions = executions
        self._request = request
        self._gate = gate
        self._scheme = scheme

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path, method = scope["path"], scope["method"]
        if path == RPC_PATH:
            if method == "POST":
                await self._rpc(scope, receive, send)
            else:
                await _send_error(send, 405, ConfigError("this path takes POST"), (b"allow", b"POST"))
        elif method not in ("GET", "HEAD"):
            await _send_error(send, 405, ConfigError("this path takes GET, HEAD"), (b"allow", b"GET, HEAD"))
        else:
            await self._document(path, scope, send)

    async def _document(self, path: str, scope: Scope, send: Send) -> None:
        """What anybody may read: the agent's description, its interface and its DID document."""
        identity = self.identity
        if identity is None or (path == AD_PATH and not self._executions.ready):
            await _send_json(send, 503, orjson.dumps({"status": "draining"}))
            return
        host = dict(scope["headers"])[b"host"].decode("latin-1")
        base_url = f"{self._scheme}://{host}"
        if path == AD_PATH:
            document = agent_description(self._agent_id, identity.did, base_url)
        elif path == INTERFACE_PATH:
            document = interface(self._agent_id, base_url)
        elif path == identity.path:
            document = dict(identity.document)
        else:
            known = f"{AD_PATH}, {INTERFACE_PATH}, {identity.path}, {RPC_PATH}"
            await _send_error(send, 404, ConfigError(f"there is nothing at this path; known are {known}"))
            return
        await _send_json(send, 200, orjson.dumps(document))

    async def _rpc(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        try:
            caller = await self._gate.admit(self._signed(scope, body))
        except DeniedError as error:
            realm = self.identity.did if self.identity else self._agent_id
            await _send_error(send, 401, error, *error.challenge(realm))
            return
        except RateLimitedError as error:
            await _send_error(send, 503, error, (b"retry-after", b"%d" % (error.retry_after_s or 1)))
            return
        call_id = None
        try:
            call = decode_call(body)
            call_id = call.call_id
            await self._answer(call, caller, scope, send)
        except BadCallError as error:
            await _send_json(send, 200, encode_error(error.call_id or call_id, error), *caller.headers)
        except ProtocolError as error:
            wrong = BadCallError(INVALID_PARAMS, str(error))
            await _send_json(send, 200, encode_error(call_id, wrong), *caller.headers)
        except StreamingQueueError as error:
            await _send_json(send, 200, encode_error(call_id, error), *caller.headers)

    def _signed(self, scope: Scope, body: bytes) -> Request:
        """The request as its maker saw it."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        target: bytes = scope["raw_path"]
        query: bytes = scope["query_string"]
        url = f"{self._scheme}://{headers['host']}{target.decode('latin-1')}"
        return Request(scope["method"], f"{url}?{query.decode('latin-1')}" if query else url, headers, body)

    async def _answer(self, call: Call, caller: Caller, scope: Scope, send: Send) -> None:
        if call.method == CANCEL:
            key = call.params.get("idempotency_key")
            if not isinstance(key, str) or not key:
                raise BadCallError(INVALID_PARAMS, '"idempotency_key" must be a text', call.call_id)
            cancelled = await self._executions.cancel(key, principal=caller.did)
            await _send_json(send, 200, encode_result(call.call_id, {"cancelled": cancelled}), *caller.headers)
            return
        if call.method != ASK:
            known = f"there are {ASK} and {CANCEL}"
            raise BadCallError(METHOD_NOT_FOUND, f"there is no method {call.method[:100]!r}; {known}", call.call_id)
        payload = decode_payload(call.params)
        streaming = EVENT_STREAM in dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        context = self._request(self._agent_id, payload, principal=caller.did, streaming=streaming)
        with cancelled_on_disconnect(scope), self._executions.attach(context) as execution:
            if streaming:
                await _stream(call, execution, caller, send)
            else:
                await _whole(call, execution, caller, send)


async def _whole(call: Call, execution: Execution, caller: Caller, send: Send) -> None:
    end = await execution.ended_within(HEARTBEAT_S)
    if end is not None:
        await _send_json(send, 200, encode_end(call.call_id, end), *caller.headers)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [_JSON, *caller.headers]})
    while end is None:
        await send(_HEARTBEAT)
        end = await execution.ended_within(HEARTBEAT_S)
    await send({"type": "http.response.body", "body": encode_end(call.call_id, end)})


async def _stream(call: Call, execution: Execution, caller: Caller, send: Send) -> None:
    """Answer by server-sent events: notifications, then the response; a comment where nothing happens."""
    await send({"type": "http.response.start", "status": 200, "headers": [*_STREAM, *caller.headers]})
    async with aclosing(execution.batches(HEARTBEAT_S)) as batches:
        async for batch in batches:
            events = b"".join(b"data: %b\n\n" % encode_event(call.call_id, event) for event in batch)
            await send({"type": "http.response.body", "body": events or b":\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_json(send: Send, status: int, body: bytes, *headers: Header) -> None:
    fields = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def _send_error(send: Send, status: int, error: StreamingQueueError, *headers: Header) -> None:
    await _send_json(send, status, orjson.dumps({"error": error_event(error)}), *headers)
