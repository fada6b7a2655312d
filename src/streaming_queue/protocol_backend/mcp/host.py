"""The host half: an executor as the one tool of an MCP server, over streamable HTTP, as plain ASGI."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from streaming_queue.comm import strict_json
from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.client.lines import EVENT_STREAM
from streaming_queue.comm.context import Executor, RequestContext
from streaming_queue.comm.host.agent import AsgiAgent
from streaming_queue.comm.host.asgi import AsgiServer, cancelled_on_disconnect, read_body, serve
from streaming_queue.comm.host.execution import HEARTBEAT_S, Execution, Executions
from streaming_queue.comm.skills import declared
from streaming_queue.errors import AgentFailedError, ConfigError, StreamingQueueError, error_event
from streaming_queue.messages import ERROR, MESSAGE, StreamEvent
from streaming_queue.protocol_backend.mcp.codec import read_context, write_end, write_progress
from streaming_queue.protocol_backend.mcp.dialect import (
    IDEMPOTENCY_KEY,
    INVALID_PARAMS,
    INVALID_REQUEST,
    JSON,
    PARSE_ERROR,
    SESSION_HEADER,
)
from streaming_queue.protocol_backend.mcp.service import (
    ARGUMENT,
    TOOL,
    Refused,
    Service,
    check_envelope,
    is_modern,
)

PATH = "/mcp"
_JSON_HEADER = (b"content-type", JSON.encode())
_SESSION = SESSION_HEADER.lower().encode()
_LATE_START = {"type": "http.response.start", "status": 200, "headers": [_JSON_HEADER]}
_WHITE_SPACE = {"type": "http.response.body", "body": b"\n", "more_body": True}
"""White space before JSON means nothing (RFC 8259, 2)."""
_STREAM_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", EVENT_STREAM.encode()),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ],
}
_COMMENT = b": at work\n\n"

Header = tuple[bytes, bytes]


class McpAgent(AsgiAgent):
    """A hosted agent, and its handle."""

    def __init__(self, agent_id: str, executions: Executions, server: AsgiServer, stop_s: float) -> None:
        super().__init__(agent_id, executions, server, stop_s)
        self.base_url += PATH

    async def stop(self) -> None:
        """Fail what is under way as retryable, then stop serving; idempotent, bounded even with a hung executor."""
        await self._executions.aclose(self._stop_s)
        await self._server.stop()


async def spawn(agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend) -> McpAgent:
    """Host `executor` by the options of `backend`; returns when it is ready.

    Raises like `comm.host.asgi.serve`, and ConfigError where the executor's `description` is no text.
    """
    options = backend.host_options
    executions = Executions(executor, grace_s=options.limits.disconnect_grace_s)
    description, _ = declared(agent_id, executor)
    app = McpAgentApp(Service(agent_id, description), executions, backend.request)
    server = await serve(app, host=host, port=port, options=options, name=f"agent {agent_id!r}")
    return McpAgent(agent_id, executions, server, options.limits.stop_s)


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came: its id, what it asks, by which revision, in which session, and who asks.

    `progress_token` is there where progress is to be told, and the caller takes a stream of events.
    """

    id: str | int
    method: str
    params: Mapping[str, Any]
    meta: Mapping[str, Any]
    modern: bool
    session: bytes
    principal: str | None
    progress_token: str | int | None


class McpAgentApp:
    """The ASGI application of one agent (docs/protocols/mcp.md); `request` makes the context of a message.

    It keeps no session. An id is given to who begins with a handshake only so that ids of requests can be told apart:
    a cancel finds the request under way that has the same session, id and principal.
    """

    def __init__(self, service: Service, executions: Executions, request: Callable[..., RequestContext]) -> None:
        self._service = service
        self._executions = executions
        self._request = request
        self._under_way: dict[tuple[str | None, bytes, str | int], Execution] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what is wrong with it is answered as JSON."""
        path, method = scope["path"], scope["method"]
        if path == "/health" and method in ("GET", "HEAD"):
            await self._health(send)
        elif path != PATH:
            error = ConfigError(f"there is nothing at this path; known are {PATH}, /health")
            await _send_json(send, 404, {"error": error_event(error)})
        elif method != "POST":
            error = ConfigError("this path takes POST: there are no streams but answers, and no sessions to end")
            await _send_json(send, 405, {"error": error_event(error)}, (b"allow", b"POST"))
        else:
            await self._post(scope, receive, send)

    async def _health(self, send: Send) -> None:
        ready = self._executions.ready
        document = {"status": "ok" if ready else "draining", "agent_id": self._service.server["name"]}
        await _send_json(send, 200 if ready else 503, document)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        number: str | int | None = None
        try:
            message = _parsed(dict(scope["headers"]), body)
            number = _id_of(message)
            call = _read(message, number, scope)
            if number is None:
                await self._notified(call)
                await send({"type": "http.response.start", "status": 202, "headers": []})
                await send({"type": "http.response.body", "body": b""})
            elif call.method == "tools/call":
                await self._ask(call, _question(call), scope, send)
            else:
                ready = self._executions.ready
                result = self._service.answer(call.method, call.params, modern=call.modern, ready=ready)
                session = ((_SESSION, secrets.token_hex(16).encode()),) if call.method == "initialize" else ()
                await _send_json(send, 200, self._response(call, result), *session)
        except Refused as refusal:
            await _send_json(send, refusal.status, {"jsonrpc": "2.0", "id": number, "error": refusal.error})

    def _response(self, call: Call, result: Mapping[str, Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": call.id, "result": self._service.complete(result, modern=call.modern)}

    async def _notified(self, call: Call) -> None:
        """Cancel what a `notifications/cancelled` means; other notifications have nothing to do here."""
        if call.method != "notifications/cancelled":
            return
        key = call.meta.get(IDEMPOTENCY_KEY)
        if isinstance(key, str) and key:
            await self._executions.cancel(key, principal=call.principal)
            return
        number = call.params.get("requestId")
        execution = self._under_way.get((call.principal, call.session, number)) if call.session and number else None
        if execution is not None and not execution.done and not execution.is_command:
            await self._executions.discard(execution)

    async def _ask(self, call: Call, question: str, scope: Scope, send: Send) -> None:
        token = call.progress_token
        payload = {"text": question, "metadata": read_context(call.meta)}
        agent_id = self._service.server["name"]
        context = self._request(agent_id, payload, principal=call.principal, streaming=token is not None)
        try:
            with (
                cancelled_on_disconnect(scope),
                self._executions.attach(context) as execution,
                self._found_by_id(call, execution),
            ):
                if token is not None:
                    await self._stream(call, execution, token, send)
                else:
                    await self._answer(call, execution, send)
        except StreamingQueueError as error:
            await _send_json(send, 200, self._end(call, error_event(error)))

    @contextmanager
    def _found_by_id(self, call: Call, execution: Execution) -> Iterator[None]:
        key = (call.principal, call.session, call.id)
        if not call.session or key in self._under_way:
            yield
            return
        self._under_way[key] = execution
        try:
            yield
        finally:
            del self._under_way[key]

    async def _answer(self, call: Call, execution: Execution, send: Send) -> None:
        """Answer with the end of an execution; one that is long in coming begins with white space."""
        end = await execution.ended_within(HEARTBEAT_S)
        if end is not None:
            await _send_json(send, 200, self._end(call, end))
            return
        await send(_LATE_START)
        while end is None:
            await send(_WHITE_SPACE)
            end = await execution.ended_within(HEARTBEAT_S)
        await send({"type": "http.response.body", "body": orjson.dumps(self._end(call, end))})

    async def _stream(self, call: Call, execution: Execution, token: str | int, send: Send) -> None:
        """Answer with a stream of events: progress, which is told under `token`, then the end."""
        await send(_STREAM_START)
        count = 0
        async with aclosing(execution.batches(HEARTBEAT_S)) as batches:
            async for batch in batches:
                lines = []
                for event in batch:
                    told = _sendable(event)
                    if told["type"] in (MESSAGE, ERROR):
                        lines.append(_event(self._end(call, told)))
                        await send({"type": "http.response.body", "body": b"".join(lines)})
                        return
                    count += 1
                    params = write_progress(told, token, count)
                    lines.append(_event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
                await send({"type": "http.response.body", "body": b"".join(lines) or _COMMENT, "more_body": True})

    def _end(self, call: Call, end: StreamEvent) -> dict[str, Any]:
        return self._response(call, write_end(_sendable(end)))


def _parsed(headers: Mapping[bytes, bytes], body: bytes) -> dict[str, Any]:
    """The message in a body. Raises Refused where it is none."""
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != JSON.encode():
        raise Refused(INVALID_REQUEST, f"the content type must be {JSON}", status=415)
    try:
        message = strict_json.loads(body)
    except ValueError as error:
        raise Refused(PARSE_ERROR, f"the body is no valid JSON: {error}") from error
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Refused(INVALID_REQUEST, "the body must be one JSON-RPC 2.0 message")
    return message


def _id_of(message: Mapping[str, Any]) -> str | int | None:
    """The id of a request, None for a notification or a response. Raises Refused for one that is no id."""
    if "id" not in message or "method" not in message:
        return None
    number = message["id"]
    if isinstance(number, str | int) and not isinstance(number, bool):
        return number
    raise Refused(INVALID_REQUEST, "an id is a string or an integer")


def _read(message: Mapping[str, Any], number: str | int | None, scope: Scope) -> Call:
    """The call in a message. Raises Refused where it does not keep to its revision."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    modern = is_modern(headers)
    method, params = message.get("method", ""), message.get("params", {})
    if not isinstance(method, str) or not isinstance(params, dict):
        raise Refused(INVALID_REQUEST, '"method" must be a string and "params" an object')
    if modern and number is not None:
        check_envelope(headers, method, params)
    meta = params.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    token = meta.get("progressToken")
    streams = isinstance(token, str | int) and EVENT_STREAM.encode() in headers.get(b"accept", b"")
    return Call(
        id=0 if number is None else number,
        method=method,
        params=params,
        meta=meta,
        modern=modern,
        session=b"" if modern else headers.get(_SESSION, b""),
        principal=scope["state"].get("principal"),
        progress_token=token if streams else None,
    )


def _question(call: Call) -> str:
    """What the tool is asked. Raises Refused where it is another tool, or the argument is not there."""
    name, arguments = call.params.get("name"), call.params.get("arguments")
    status = None if call.modern else 200
    if name != TOOL:
        raise Refused(INVALID_PARAMS, f"unknown tool {str(name)[:60]!a}: there is {TOOL!r}", status=status)
    question = arguments.get(ARGUMENT) if isinstance(arguments, dict) else None
    if not isinstance(question, str):
        raise Refused(INVALID_PARAMS, f"the tool {TOOL!r} needs the argument {ARGUMENT!r}, a string", status=status)
    return question


def _sendable(event: StreamEvent) -> StreamEvent:
    """An event, or the failure that JSON cannot hold it."""
    try:
        orjson.dumps(event)
    except TypeError as error:
        return error_event(AgentFailedError(f"what the agent says cannot be sent as JSON: {error}"))
    return event


def _event(message: Mapping[str, Any]) -> bytes:
    return b"event: message\ndata: " + orjson.dumps(message) + b"\n\n"


async def _send_json(send: Send, status: int, document: Mapping[str, Any], *headers: Header) -> None:
    body = orjson.dumps(document)
    fields = [_JSON_HEADER, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
