"""One hosted agent as an ASGI application (docs/protocols/acp.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, aclosing
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from streaming_queue.comm.context import RequestContext
from streaming_queue.comm.host.asgi import cancelled_on_disconnect, read_body
from streaming_queue.comm.host.execution import HEARTBEAT_S, Execution, Executions
from streaming_queue.errors import ConnectError, ProtocolError, StreamingQueueError, error_event
from streaming_queue.messages import ERROR, MESSAGE
from streaming_queue.protocol_backend.acp.codec import ASYNC, CANCELLING, CREATED, EVENT_STREAM, JSON, STREAM, message
from streaming_queue.protocol_backend.acp.failures import INVALID_INPUT, NOT_FOUND, SERVER_ERROR, acp_error
from streaming_queue.protocol_backend.acp.narration import Narrator, encode_list, encode_sse, encode_state
from streaming_queue.protocol_backend.acp.requests import RunRequest, decode_run_request, page, wished_run_id
from streaming_queue.protocol_backend.acp.runs import Run, Runs
from streaming_queue.protocol_backend.acp.sessions import Sessions

_JSON_HEADER = (b"content-type", JSON.encode())
_STREAM_HEADERS = [
    (b"content-type", EVENT_STREAM.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_WHITE_SPACE = {"type": "http.response.body", "body": b"\n", "more_body": True}
"""A sign of life: white space before JSON means nothing (RFC 8259, 2)."""
_COMMENT = b":\n\n"
"""The same in a stream."""

Header = tuple[bytes, bytes]


class RefusedError(Exception):
    """A request that is answered with a status and ACP's Error: nothing became of it that an agent could fail at."""

    def __init__(self, status: int, code: str, message: str, *headers: Header) -> None:
        super().__init__(message)
        self.status = status
        self.body = orjson.dumps({"code": code, "message": message})
        self.headers = headers


class AcpApp:
    """The application of one agent; `request` makes the context of a message."""

    def __init__(
        self,
        agent_id: str,
        manifest: Mapping[str, Any],
        executions: Executions,
        request: Callable[..., RequestContext],
    ) -> None:
        self.runs = Runs(str(manifest["name"]))
        self.sessions = Sessions()
        self._agent_id = agent_id
        self._name: str = manifest["name"]
        self._manifest = orjson.dumps(manifest)
        self._executions = executions
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what is wrong with it is answered as ACP's Error."""
        try:
            await self._serve(scope, receive, send)
        except RefusedError as refused:
            await _json(send, refused.status, refused.body, *refused.headers)
        except ProtocolError as error:
            await _refuse(send, 422, error)
        except StreamingQueueError as error:
            await _refuse(send, 503 if isinstance(error, ConnectError) else 500, error)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], [part for part in scope["path"].split("/") if part]
        match path:
            case ["runs"]:
                _allow(method, "POST")
                await self._create(scope, receive, send)
            case ["runs", run_id]:
                _allow(method, "GET", "POST")
                run = self._run(scope, run_id)
                if method == "POST":
                    raise RefusedError(
                        403, SERVER_ERROR, f"run {run.run_id} awaits no input: there is nothing to resume"
                    )
                await _json(send, 200, encode_state(run, run.end))
            case ["runs", run_id, "events"]:
                _allow(method, "GET")
                run = self._run(scope, run_id)
                narrator = Narrator(run)
                await _json(send, 200, encode_list([*narrator.begin(), *narrator.tell(run.told)]))
            case ["runs", run_id, "cancel"]:
                _allow(method, "POST")
                await self._cancel(self._run(scope, run_id), send)
            case _:
                _allow(method, "GET")
                await _json(send, *self._read(scope, path))

    def _read(self, scope: Scope, path: list[str]) -> tuple[int, bytes]:
        principal = scope["state"].get("principal")
        match path:
            case ["ping"]:
                if not self._executions.ready:
                    away = f"agent {self._agent_id!r} takes no questions now: it is about to stop, or is not ready"
                    raise RefusedError(503, SERVER_ERROR, away)
                return 200, b"{}"
            case ["agents"]:
                offset, limit = page(scope["query_string"])
                return 200, b'{"agents":[%s]}' % (self._manifest if limit > 0 and offset == 0 else b"")
            case ["agents", self._name]:
                return 200, self._manifest
            case ["sessions", session_id]:
                origin = f"{scope['scheme']}://{dict(scope['headers'])[b'host'].decode('latin-1')}"
                session = self.sessions.document((principal, session_id.lower()), origin)
                if session is not None:
                    return 200, orjson.dumps(session)
            case ["resources", resource_id]:
                text = self.sessions.resource(principal, resource_id)
                if text is not None:
                    return 200, text
        raise RefusedError(404, NOT_FOUND, f"there is nothing here at {'/'.join(path)[:200]!a}")

    def _run(self, scope: Scope, run_id: str) -> Run:
        run = self.runs.find(run_id.lower(), scope["state"].get("principal"))
        if run is None:
            raise RefusedError(404, NOT_FOUND, f"there is no run {run_id[:80]!a} (any more)")
        return run

    async def _create(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        headers = dict(scope["headers"])
        asked = decode_run_request(body, headers)
        if asked.agent_name != self._name:
            raise RefusedError(404, NOT_FOUND, f"there is no agent {asked.agent_name[:80]!a} here, but {self._name!r}")
        context = self._request(
            self._agent_id,
            asked.payload,
            principal=scope["state"].get("principal"),
            streaming=asked.mode == STREAM,
            context_id=asked.session_id,
        )
        if asked.mode == ASYNC:
            await _json(send, 202, *self._left_to_itself(context, asked, headers))
            return
        with cancelled_on_disconnect(scope), self._executions.attach(context) as execution:
            run = self._begin(execution, context, asked, wished_run_id(headers))
            await (self._stream(run, execution, send) if asked.mode == STREAM else self._answer(run, execution, send))

    def _left_to_itself(
        self, context: RequestContext, asked: RunRequest, headers: Mapping[bytes, bytes]
    ) -> tuple[bytes, Header]:
        """Begin a run that goes on to its end though nobody reads: its state, and its id."""
        with ExitStack() as held:
            execution = held.enter_context(self._executions.attach(context))
            run = self._begin(execution, context, asked, wished_run_id(headers))
            keep = held.pop_all()
        execution.task.add_done_callback(lambda _: keep.close())
        return encode_state(run, None, CREATED), _run_header(run)

    def _begin(self, execution: Execution, context: RequestContext, asked: RunRequest, run_id: str | None) -> Run:
        if asked.session_id is not None:
            owner, said = (context.principal, asked.session_id), asked.messages
            self.sessions.open(owner, asked.session)

            def record(_: object) -> None:
                end = execution.end
                if end is not None and end["type"] == MESSAGE:
                    self.sessions.record(owner, [*said, message(end["data"], f"agent/{self._name}")])

            execution.task.add_done_callback(record)
        return self.runs.begin(execution, run_id, asked.session_id)

    async def _answer(self, run: Run, execution: Execution, send: Send) -> None:
        """The whole run; one that is long in coming begins with its status, its id, and white space."""
        end = await execution.ended_within(HEARTBEAT_S)
        if end is not None:
            await _json(send, 200, encode_state(run, end), _run_header(run))
            return
        await send({"type": "http.response.start", "status": 200, "headers": [_JSON_HEADER, _run_header(run)]})
        while end is None:
            await send(_WHITE_SPACE)
            end = await execution.ended_within(HEARTBEAT_S)
        await send({"type": "http.response.body", "body": encode_state(run, end)})

    async def _stream(self, run: Run, execution: Execution, send: Send) -> None:
        narrator = Narrator(run)
        headers = [*_STREAM_HEADERS, _run_header(run)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": encode_sse(narrator.begin()), "more_body": True})
        async with aclosing(execution.batches(HEARTBEAT_S)) as batches:
            async for batch in batches:
                more = not batch or batch[-1]["type"] not in (MESSAGE, ERROR)
                told = encode_sse(narrator.tell(batch)) or _COMMENT
                await send({"type": "http.response.body", "body": told, "more_body": more})

    async def _cancel(self, run: Run, send: Send) -> None:
        execution = run.execution
        if execution is None or execution.done:
            raise RefusedError(403, SERVER_ERROR, f"run {run.run_id} has ended and cannot be cancelled")
        if execution.is_command:
            raise RefusedError(403, SERVER_ERROR, f"run {run.run_id} is a command, which goes on")
        run.cancelled = True
        accepted = encode_state(run, None, CANCELLING)
        await self._executions.discard(execution)
        await _json(send, 202, accepted)


def _run_header(run: Run) -> Header:
    return b"run-id", run.run_id.encode()


def _allow(method: str, *allowed: str) -> None:
    if method not in allowed and not (method == "HEAD" and "GET" in allowed):
        told = ", ".join(allowed)
        raise RefusedError(405, INVALID_INPUT, f"this path takes {told}", (b"allow", told.encode()))


async def _json(send: Send, status: int, body: bytes, *headers: Header) -> None:
    fields = [_JSON_HEADER, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, status: int, error: StreamingQueueError) -> None:
    await _json(send, status, orjson.dumps(acp_error(error_event(error))))
