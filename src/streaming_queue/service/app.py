"""The HTTP application of a served queue: runs, questions and rows, and OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from streaming_queue.errors import QueueClosedError, UnknownRunError
from streaming_queue.intake.parser import Parser, Problem
from streaming_queue.messages import Question
from streaming_queue.queue.run_store import RunFacts
from streaming_queue.service.openai.refusals import (
    InvalidRequestError,
    NotFoundError,
    UnprocessableError,
    UnsupportedMediaTypeError,
    refusal,
)
from streaming_queue.service.openai_routes import OpenAIRoutes
from streaming_queue.service.requests import DEFAULT_RUN, checked, json_response, object_of
from streaming_queue.telemetry.json_lines import encode, encode_line

if TYPE_CHECKING:
    from streaming_queue.queue.runs import QueueOfRuns
    from streaming_queue.service.live import LiveQueue

PAGE = 500
"""Rows in one page."""
HEARTBEAT_S = 15.0
_LINES = "application/x-ndjson"
_STEPS = ("seal", "stop", "resume", "cancel")


def make_app(queue: QueueOfRuns, live: LiveQueue) -> Starlette:
    """The application over `queue`, whose questions `live` gives to workers."""
    service = _Service(queue, live)
    one = "/v1/runs/{run}"
    routes = [
        Route("/healthz", checked(service.healthz), methods=["GET"]),
        Route("/readyz", checked(service.readyz), methods=["GET"]),
        Route("/v1/runs", checked(service.list_runs), methods=["GET"]),
        Route("/v1/runs", checked(service.create), methods=["POST"]),
        Route(one, checked(service.show), methods=["GET"]),
        Route(one, checked(service.remove), methods=["DELETE"]),
        Route(f"{one}/questions", checked(service.put), methods=["POST"]),
        Route(f"{one}/rows", checked(service.rows), methods=["GET"]),
        Route(one + "/{step}", checked(service.steer), methods=["POST"]),
    ]
    routes += OpenAIRoutes(queue, live).routes()
    return Starlette(routes=routes, exception_handlers={HTTPException: _refused})


async def _refused(request: Request, error: Exception) -> Response:
    """A path or a method that is not served."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    told = refusal(NotFoundError(f"{request.method} {request.url.path[:100]} is not served here"))
    return json_response(told.document, status)


class _Service:
    """The handlers."""

    def __init__(self, queue: QueueOfRuns, live: LiveQueue) -> None:
        self._queue = queue
        self._live = live

    async def healthz(self, request: Request) -> Response:
        """The process works."""
        del request
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Workers take questions; 503 while the queue can only wait."""
        del request
        waiting = self._live.waiting
        return json_response({"status": waiting or "ok"}, 503 if waiting else 200)

    # --- runs ---

    async def list_runs(self, request: Request) -> Response:
        """All runs, the oldest first."""
        del request
        return json_response({"runs": [_shown(facts) for facts in await self._queue.runs()]})

    async def create(self, request: Request) -> Response:
        """Make a run: 201, or 200 if it was there."""
        body = await object_of(request, {"name", "weight"})
        name = body.get("name", f"run-{secrets.token_hex(16)}")
        weight = body.get("weight", 1.0)
        if not isinstance(name, str):
            raise InvalidRequestError("name is not text", param="name")
        if not isinstance(weight, int | float) or isinstance(weight, bool):
            raise InvalidRequestError("weight is not a number", param="weight")
        facts, is_new = await self._queue.create(name, weight=float(weight))
        return json_response(_shown(facts), 201 if is_new else 200)

    async def show(self, request: Request) -> Response:
        """One run."""
        return json_response(_shown(await self._queue.run(request.path_params["run"])))

    async def remove(self, request: Request) -> Response:
        """Delete a run with its questions and rows."""
        run = request.path_params["run"]
        if run == DEFAULT_RUN:
            raise InvalidRequestError(f"the run {DEFAULT_RUN!r} stays for ever")
        await self._queue.remove(run)
        return Response(status_code=204)

    async def steer(self, request: Request) -> Response:
        """Seal, stop, resume or cancel a run."""
        run, step = request.path_params["run"], request.path_params["step"]
        if step not in _STEPS:
            raise NotFoundError(f"a run has no {step[:40]!r}; it has {', '.join(_STEPS)}, questions and rows")
        if run == DEFAULT_RUN and step in ("seal", "cancel"):
            raise InvalidRequestError(f"the run {DEFAULT_RUN!r} stays open for ever")
        steps = {"seal": self._queue.seal, "stop": self._queue.stop, "resume": self._queue.go_on}
        await (self._queue.cancel if step == "cancel" else steps[step])(run)
        return json_response(_shown(await self._queue.run(run)))

    # --- questions and rows ---

    async def put(self, request: Request) -> Response:
        """Store JSON Lines of questions: all or none. 202 with their ids, which make a repeated request harmless."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (_LINES, "application/jsonl", "application/json"):
            raise UnsupportedMediaTypeError(f"send the questions as JSON Lines, with content-type {_LINES}")
        questions = [
            question if question.id is not None else Question(question.text, secrets.token_hex(12), question.reference)
            for question in _questions(await request.body())
        ]
        report = await self._queue.put(request.path_params["run"], questions)
        ids = [question.id for question in questions]
        return json_response({"added": report.added, "known": report.known, "ids": ids, "renamed": report.renamed}, 202)

    async def rows(self, request: Request) -> Response:
        """The rows after a cursor, as JSON Lines; with `Accept: text/event-stream` also those to come."""
        run, query = request.path_params["run"], request.query_params
        after = request.headers.get("last-event-id") or query.get("after", "")
        first = await self._queue.rows(run, after, PAGE)
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(self._events(run, after), media_type="text/event-stream")
        return Response(b"".join(encode_line(outcome.row()) for outcome in first), media_type=_LINES)

    async def _events(self, run: str, after: str) -> AsyncIterator[bytes]:
        """Each row as an event, whose id is its cursor; the stream ends with a run that has ended."""
        while True:
            change = self._queue.next_change(run)
            try:
                facts = await self._queue.run(run)
                page = await self._queue.rows(run, after, PAGE)
            except (UnknownRunError, QueueClosedError):  # it was deleted, or the service ends
                return
            for outcome in page:
                row = outcome.row()
                after = str(row["cursor"])
                yield b"id: %b\ndata: %b\n\n" % (after.encode(), encode(row))
            if page:
                continue
            if facts.state in ("done", "cancelled") and not (facts.counts and facts.counts.open):
                yield b"event: end\ndata: {}\n\n"
                return
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await change.wait()
            except TimeoutError:
                yield b": still here\n\n"


def _shown(facts: RunFacts) -> dict[str, Any]:
    counts = facts.counts
    return {
        "name": facts.name,
        "state": "stopped" if facts.stopped and facts.state in ("open", "sealed") else facts.state,
        "weight": facts.weight,
        "created": facts.created,
        "counts": None if counts is None else asdict(counts),
    }


def _questions(body: bytes) -> list[Question]:
    """The questions of JSON Lines. Raises UnprocessableError that names each bad line, and takes none then."""
    parser = Parser("line", "jsonl")
    entries = [entry for _, entry in (*parser.feed(body), *parser.finish())]
    if problems := [str(entry) for entry in entries if isinstance(entry, Problem)]:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise UnprocessableError(f"nothing was stored: {'; '.join(problems[:10])}{more}")
    return [entry for entry in entries if isinstance(entry, Question)]
