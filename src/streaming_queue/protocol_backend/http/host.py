"""The host half: an executor behind `/message`, `/cancel` and `/health`, as plain ASGI."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import aclosing

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor, RequestContext
from streaming_queue.comm.host.agent import AsgiAgent
from streaming_queue.comm.host.asgi import cancelled_on_disconnect, read_body, serve
from streaming_queue.comm.host.execution import HEARTBEAT_S, Executions
from streaming_queue.errors import ConfigError, ProtocolError, StreamingQueueError, error_event
from streaming_queue.messages import ERROR, MESSAGE, StreamEvent
from streaming_queue.protocol_backend.http.answers import encode_end, encode_events
from streaming_queue.protocol_backend.http.codec import JSON, NDJSON, decode_object, decode_request

_JSON_HEADER = (b"content-type", JSON.encode())
_NDJSON = NDJSON.encode()
_LATE_START = {"type": "http.response.start", "status": 200, "headers": [_JSON_HEADER]}
"""An answer that is long in coming begins with its status; what it is, its body says."""
_HEARTBEAT = {"type": "http.response.body", "body": b"\n", "more_body": True}
"""White space before JSON means nothing (RFC 8259, 2)."""
_STREAM_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", _NDJSON), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")],
}


class HttpAgent(AsgiAgent):
    """A hosted agent, and its handle."""


async def spawn(agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend) -> HttpAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Raises like `comm.host.asgi.serve`."""
    options = backend.host_options
    executions = Executions(executor, grace_s=options.limits.disconnect_grace_s)
    app = HttpAgentApp(agent_id, executions, backend.request)
    server = await serve(app, host=host, port=port, options=options, name=f"agent {agent_id!r}")
    return HttpAgent(agent_id, executions, server, options.limits.stop_s)


class HttpAgentApp:
    """The ASGI application of one agent (docs/protocols/http.md); `request` makes the context of a message."""

    def __init__(self, agent_id: str, executions: Executions, request: Callable[..., RequestContext]) -> None:
        self._agent_id = agent_id
        self._executions = executions
        self._request = request
        self._routes: dict[str, tuple[ASGIApp, tuple[str, ...]]] = {
            "/message": (self._message, ("POST",)),
            "/cancel": (self._cancel, ("POST",)),
            "/health": (self._health, ("GET", "HEAD")),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what is wrong with it is answered as JSON."""
        route = self._routes.get(scope["path"])
        if route is None:
            known = ", ".join(self._routes)
            await _send_error(send, 404, ConfigError(f"there is nothing at this path; known are {known}"))
            return
        handler, methods = route
        if scope["method"] not in methods:
            allowed = ", ".join(methods)
            await _send_error(send, 405, ConfigError(f"this path takes {allowed}"), (b"allow", allowed.encode()))
            return
        try:
            await handler(scope, receive, send)
        except ProtocolError as error:
            await _send_error(send, 400, error)
        except StreamingQueueError as error:
            await _send_event(send, error_event(error))

    async def _message(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        headers = dict(scope["headers"])
        streaming = _NDJSON in headers.get(b"accept", b"")
        payload = decode_request(body, headers)
        principal = scope["state"].get("principal")
        context = self._request(self._agent_id, payload, principal=principal, streaming=streaming)
        with cancelled_on_disconnect(scope), self._executions.attach(context) as execution:
            if streaming:
                await send(_STREAM_START)
                async with aclosing(execution.batches(HEARTBEAT_S)) as batches:
                    async for batch in batches:
                        more = not batch or batch[-1]["type"] not in (MESSAGE, ERROR)
                        line = encode_events(batch) or b"\n"
                        await send({"type": "http.response.body", "body": line, "more_body": more})
                return
            end = await execution.ended_within(HEARTBEAT_S)
            if end is None:
                await send(_LATE_START)
                while end is None:
                    await send(_HEARTBEAT)
                    end = await execution.ended_within(HEARTBEAT_S)
                _, answer, _ = encode_end(end)
                await send({"type": "http.response.body", "body": answer})
                return
        await _send_event(send, end)

    async def _cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        key = decode_object(body).get("idempotency_key")
        if not isinstance(key, str) or not key:
            raise ProtocolError('the body must have "idempotency_key"', retryable=False)
        cancelled = await self._executions.cancel(key, principal=scope["state"].get("principal"))
        await _send_json(send, 200, orjson.dumps({"cancelled": cancelled}))

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        ready = self._executions.ready
        document = {"status": "ok" if ready else "draining", "agent_id": self._agent_id}
        await _send_json(send, 200 if ready else 503, orjson.dumps(document))


async def _send_json(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    fields = [_JSON_HEADER, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def _send_error(send: Send, status: int, error: StreamingQueueError, *headers: tuple[bytes, bytes]) -> None:
    await _send_json(send, status, orjson.dumps({"error": error_event(error)}), *headers)


async def _send_event(send: Send, end: StreamEvent) -> None:
    """Answer with an execution's end, and what HTTP wants beside it (RFC 9110, 10.2.3 and 11.6.1)."""
    status, body, retry_after_s = encode_end(end)
    headers = []
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(max(0.0, retry_after_s))))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await _send_json(send, status, body, *headers)
