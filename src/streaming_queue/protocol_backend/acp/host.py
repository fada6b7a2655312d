"""The host half: an executor as an ACP agent, with its runs and sessions, as plain ASGI."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import orjson
from starlette.types import Scope, Send

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor, RequestContext
from streaming_queue.comm.host.asgi import cancelled_on_disconnect
from streaming_queue.comm.host.asgi_agent import POST, AsgiAgent, RefusedError, Route
from streaming_queue.comm.host.execution import Execution
from streaming_queue.comm.host.respond import Answer, Header, encode_or_fail, send_end, send_json, send_stream
from streaming_queue.errors import ConnectError, ProtocolError, StreamingQueueError, error_event
from streaming_queue.messages import MESSAGE, StreamEvent
from streaming_queue.protocol_backend.acp.codec import ASYNC, CANCELLING, CREATED, STREAM, message
from streaming_queue.protocol_backend.acp.failures import INVALID_INPUT, NOT_FOUND, SERVER_ERROR, acp_error
from streaming_queue.protocol_backend.acp.manifest import own_manifest
from streaming_queue.protocol_backend.acp.requests import RunRequest, decode_run_request, page
from streaming_queue.protocol_backend.acp.runs import Run, RunEvents, Runs, encode_sse
from streaming_queue.protocol_backend.acp.sessions import Sessions


async def spawn(agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend) -> AcpAgent:
    """Host `executor` by the options of `backend`; returns when it is ready.

    Raises like `comm.host.asgi.serve` and `own_manifest`.
    """
    return await AcpAgent(agent_id, executor, backend).serve(host, port)


class AcpAgent(AsgiAgent):
    """A hosted agent (docs/protocols/acp.md); while it drains, its `/ping` answers 503."""

    open_paths = ("/ping",)

    def __init__(self, agent_id: str, executor: Executor, backend: BaseCommBackend) -> None:
        super().__init__(agent_id, executor, backend)
        manifest = own_manifest(agent_id, executor)
        self._name: str = manifest["name"]
        self._manifest = orjson.dumps(manifest)
        self.runs = Runs(self._name)
        self.sessions = Sessions()

    def _route(self, path: str) -> Route:
        match [part for part in path.split("/") if part]:
            case ["runs"]:
                return self._create, POST
            case ["runs", run_id]:
                return partial(self._show, run_id), ("GET", "POST")
            case ["runs", run_id, "events"]:
                return partial(self._show_events, run_id), ("GET",)
            case ["runs", run_id, "cancel"]:
                return partial(self._cancel, run_id), POST
            case parts:
                return partial(self._read, parts), ("GET",)

    def _wrong(self, status: int, text: str) -> bytes:
        return _error(NOT_FOUND if status == 404 else INVALID_INPUT, text)

    def _failure(self, error: StreamingQueueError) -> Answer:
        status = 422 if isinstance(error, ProtocolError) else 503 if isinstance(error, ConnectError) else 500
        return status, self.error_body(error), ()

    def error_body(self, error: StreamingQueueError) -> bytes:
        """ACP's Error."""
        return orjson.dumps(acp_error(error_event(error)))

    async def _read(self, path: list[str], scope: Scope, body: bytes, send: Send) -> None:
        del body
        found: bytes | None = None
        principal = scope["state"].get("principal")
        match path:
            case ["ping"]:
                if not self._executions.ready:
                    away = f"agent {self.agent_id!r} takes no questions now: it drains, or is not ready"
                    raise RefusedError(503, _error(SERVER_ERROR, away))
                found = b"{}"
            case ["agents"]:
                offset, limit = page(scope["query_string"])
                found = b'{"agents":[%s]}' % (self._manifest if limit > 0 and offset == 0 else b"")
            case ["agents", self._name]:
                found = self._manifest
            case ["sessions", session_id]:
                origin = f"{scope['scheme']}://{dict(scope['headers'])[b'host'].decode('latin-1')}"
                session = self.sessions.document((principal, session_id.lower()), origin)
                found = None if session is None else orjson.dumps(session)
            case ["resources", resource_id]:
                found = self.sessions.resource(principal, resource_id)
        if found is None:
            raise RefusedError(404, _error(NOT_FOUND, f"there is nothing at {'/'.join(path)[:200]!a}"))
        await send_json(send, 200, found)

    def _run(self, scope: Scope, run_id: str) -> Run:
        run = self.runs.find(run_id.lower(), scope["state"].get("principal"))
        if run is None:
            raise RefusedError(404, _error(NOT_FOUND, f"there is no run {run_id[:80]!a}, or it was removed"))
        return run

    async def _show(self, run_id: str, scope: Scope, body: bytes, send: Send) -> None:
        del body
        run = self._run(scope, run_id)
        if scope["method"] == "POST":
            raise _forbidden(f"run {run.run_id} awaits no input: there is nothing to resume")
        end = run.end
        state = run.encode() if end is None else encode_or_fail(run.encode, end)
        await send_json(send, 200, state)

    async def _show_events(self, run_id: str, scope: Scope, body: bytes, send: Send) -> None:
        del body
        run = self._run(scope, run_id)
        events = RunEvents(run)
        texts = [text for event in run.events for text in encode_or_fail(events.encode, event)]
        await send_json(send, 200, b'{"events":[%b]}' % b",".join([*events.begin(), *texts]))

    async def _create(self, scope: Scope, body: bytes, send: Send) -> None:
        asked = decode_run_request(body, dict(scope["headers"]))
        if asked.agent_name != self._name:
            here = f"there is no agent {asked.agent_name[:80]!a} here, only {self._name!r}"
            raise RefusedError(404, _error(NOT_FOUND, here))
        context = self._request(
            asked.payload,
            principal=scope["state"].get("principal"),
            streaming=asked.mode == STREAM,
            context_id=asked.session_id,
        )
        if asked.mode == ASYNC:
            run = self._begin_async(context, asked)
            await send_json(send, 202, run.encode(status=CREATED), _run_header(run))
            return
        with cancelled_on_disconnect(scope), self._executions.attach(context) as execution:
            run = self._begin(execution, context, asked)
            if asked.mode == STREAM:
                events = RunEvents(run)

                def encode(event: StreamEvent) -> bytes:
                    return encode_sse(events.encode(event))

                await send_stream(send, execution, encode, _run_header(run), opening=encode_sse(events.begin()))
            else:
                await send_end(send, execution, lambda end: (200, run.encode(end), ()), _run_header(run))

    def _begin_async(self, context: RequestContext, asked: RunRequest) -> Run:
        """Begin a run that goes on to its end without a reader."""
        with ExitStack() as held:
            execution = held.enter_context(self._executions.attach(context))
            run = self._begin(execution, context, asked)
            keep = held.pop_all()
        execution.task.add_done_callback(lambda _: keep.close())
        return run

    def _begin(self, execution: Execution, context: RequestContext, asked: RunRequest) -> Run:
        if asked.session_id is not None:
            owner, said = (context.principal, asked.session_id), asked.messages
            self.sessions.open(owner, asked.session)

            def record(_: object) -> None:
                end = execution.end
                if end is not None and end["type"] == MESSAGE:
                    self.sessions.record(owner, [*said, message(end["data"], f"agent/{self._name}")])

            execution.task.add_done_callback(record)
        return self.runs.begin(execution, asked.run_id, asked.session_id)

    async def _cancel(self, run_id: str, scope: Scope, body: bytes, send: Send) -> None:
        del body
        run = self._run(scope, run_id)
        execution = run.execution
        if execution is None or execution.done:
            raise _forbidden(f"run {run.run_id} has ended and cannot be cancelled")
        if execution.is_command:
            raise _forbidden(f"run {run.run_id} is a command and cannot be cancelled")
        run.cancelled = True
        accepted = run.encode(status=CANCELLING)
        await self._executions.discard(execution)
        await send_json(send, 202, accepted)


def _run_header(run: Run) -> Header:
    return b"run-id", run.run_id.encode()


def _error(code: str, text: str) -> bytes:
    """ACP's Error for a request that did not reach an agent."""
    return orjson.dumps({"code": code, "message": text})


def _forbidden(text: str) -> RefusedError:
    return RefusedError(403, _error(SERVER_ERROR, text))
