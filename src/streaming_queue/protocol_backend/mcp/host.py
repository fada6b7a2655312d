"""The host half: an executor as the one tool of an MCP server, over streamable HTTP, as plain ASGI."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from starlette.types import Scope, Send

from streaming_queue.comm import strict_json
from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.host.asgi import cancelled_on_disconnect
from streaming_queue.comm.host.asgi_agent import GET, POST, AsgiAgent
from streaming_queue.comm.host.execution import Execution
from streaming_queue.comm.host.respond import EVENT_STREAM, Answer, encode_or_fail, send_end, send_json, send_stream
from streaming_queue.comm.skills import declared
from streaming_queue.errors import StreamingQueueError, error_event
from streaming_queue.messages import ERROR, MESSAGE, End, StreamEvent
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
_SESSION = SESSION_HEADER.lower().encode()
_EVENT = b"event: message\ndata: %b\n\n"
_COMMENT = b": at work\n\n"


async def spawn(agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend) -> McpAgent:
    """Host `executor` by the options of `backend`; returns when it is ready.

    Raises like `comm.host.asgi.serve`, and ConfigError if the executor's `description` is not a text.
    """
    return await McpAgent(agent_id, executor, backend).serve(host, port)


@dataclass(frozen=True, slots=True)
class Call:
    """A request: its id, method and parameters, its revision (`modern`: without a handshake), session and principal.

    `progress_token` is set if the caller wants progress and accepts a stream of events.
    """

    id: str | int
    method: str
    params: Mapping[str, Any]
    meta: Mapping[str, Any]
    modern: bool
    session: bytes
    principal: str | None
    progress_token: str | int | None


class McpAgent(AsgiAgent):
    """A hosted agent (docs/protocols/mcp.md).

    It keeps no session. A client that begins with a handshake gets a session id only to distinguish the ids of its
    requests: a cancel finds the request in flight with the same session, id and principal.
    """

    base_path = PATH

    def __init__(self, agent_id: str, executor: Executor, backend: BaseCommBackend) -> None:
        super().__init__(agent_id, executor, backend)
        description, _ = declared(agent_id, executor)
        self._service = Service(agent_id, description)
        self._in_flight: dict[tuple[str | None, bytes, str | int], Execution] = {}
        self.routes = {PATH: (self._post, POST), "/health": (self._health, GET)}

    async def _post(self, scope: Scope, body: bytes, send: Send) -> None:
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
                await send_json(send, 200, orjson.dumps(self._response(call, result)), *session)
        except Refused as refusal:
            response = {"jsonrpc": "2.0", "id": number, "error": refusal.error}
            await send_json(send, refusal.status, orjson.dumps(response))

    def _response(self, call: Call, result: Mapping[str, Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": call.id, "result": self._service.complete(result, modern=call.modern)}

    async def _notified(self, call: Call) -> None:
        """Cancel the request in a `notifications/cancelled`; ignore other notifications."""
        if call.method != "notifications/cancelled":
            return
        key = call.meta.get(IDEMPOTENCY_KEY)
        if isinstance(key, str) and key:
            await self._executions.cancel(key, principal=call.principal)
            return
        number = call.params.get("requestId")
        execution = self._in_flight.get((call.principal, call.session, number)) if call.session and number else None
        if execution is not None and not execution.done and not execution.is_command:
            await self._executions.discard(execution)

    async def _ask(self, call: Call, question: str, scope: Scope, send: Send) -> None:
        token = call.progress_token
        payload = {"text": question, "metadata": read_context(call.meta)}
        context = self._request(payload, principal=call.principal, streaming=token is not None)
        encode = partial(self._encode_end, call)
        try:
            with (
                cancelled_on_disconnect(scope),
                self._executions.attach(context) as execution,
                self._found_by_id(call, execution),
            ):
                if token is None:
                    await send_end(send, execution, encode)
                else:
                    encode_event = partial(self._encode_event, call, token, itertools.count(1))
                    await send_stream(send, execution, encode_event, heartbeat=_COMMENT)
        except StreamingQueueError as error:
            await send_json(send, *encode_or_fail(encode, error_event(error))[:2])

    def _encode_end(self, call: Call, end: End) -> Answer:
        return 200, orjson.dumps(self._response(call, write_end(end))), ()

    def _encode_event(self, call: Call, token: str | int, numbers: Iterator[int], event: StreamEvent) -> bytes:
        """A server-sent event: progress under `token`, or the response at the end."""
        if event["type"] == MESSAGE or event["type"] == ERROR:
            return _EVENT % self._encode_end(call, event)[1]
        params = write_progress(event, token, next(numbers))
        return _EVENT % orjson.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    @contextmanager
    def _found_by_id(self, call: Call, execution: Execution) -> Iterator[None]:
        key = (call.principal, call.session, call.id)
        if not call.session or key in self._in_flight:
            yield
            return
        self._in_flight[key] = execution
        try:
            yield
        finally:
            del self._in_flight[key]


def _parsed(headers: Mapping[bytes, bytes], body: bytes) -> dict[str, Any]:
    """The message in a body. Raises Refused if it is not a message."""
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != JSON.encode():
        raise Refused(INVALID_REQUEST, f"the content type must be {JSON}", status=415)
    try:
        message = strict_json.loads(body)
    except ValueError as error:
        raise Refused(PARSE_ERROR, f"the body is not valid JSON: {error}") from error
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Refused(INVALID_REQUEST, "the body must be one JSON-RPC 2.0 message")
    return message


def _id_of(message: Mapping[str, Any]) -> str | int | None:
    """The id of a request, None for a notification or a response. Raises Refused for an id that is not valid."""
    if "id" not in message or "method" not in message:
        return None
    number = message["id"]
    if isinstance(number, str | int) and not isinstance(number, bool):
        return number
    raise Refused(INVALID_REQUEST, "an id must be a string or an integer")


def _read(message: Mapping[str, Any], number: str | int | None, scope: Scope) -> Call:
    """The call in a message. Raises Refused if it breaks the rules of its revision."""
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
    streams = isinstance(token, str | int) and EVENT_STREAM in headers.get(b"accept", b"")
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
    """The question to the tool. Raises Refused if the call has another tool, or lacks the argument."""
    name, arguments = call.params.get("name"), call.params.get("arguments")
    status = None if call.modern else 200
    if name != TOOL:
        raise Refused(INVALID_PARAMS, f"unknown tool {str(name)[:60]!a}: the tool here is {TOOL!r}", status=status)
    question = arguments.get(ARGUMENT) if isinstance(arguments, dict) else None
    if not isinstance(question, str):
        raise Refused(INVALID_PARAMS, f"the tool {TOOL!r} needs the argument {ARGUMENT!r}, a string", status=status)
    return question
