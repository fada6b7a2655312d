"""What the routes of a served queue share: bodies, answers and refusals."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from streaming_queue.comm.strict_json import read
from streaming_queue.errors import StreamingQueueError
from streaming_queue.service.openai.refusals import InvalidRequestError, refusal
from streaming_queue.telemetry.json_lines import encode

DEFAULT_RUN = "default"
"""The run that is open for ever."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def checked(handler: Handler) -> Handler:
    """`handler`, whose typed errors become refusals."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except StreamingQueueError as error:
            told = refusal(error)
            return json_response(told.document, told.status, told.headers)

    return handle


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(encode(document), status, dict(headers or {}), "application/json")


async def document_of(request: Request) -> Any:
    """The JSON document in the body of a request. Raises InvalidRequestError."""
    try:
        return read(await request.body())
    except ValueError as error:
        raise InvalidRequestError(f"the body cannot be read as JSON: {error}") from error


async def object_of(request: Request, known: set[str]) -> dict[str, Any]:
    """The JSON object in the body, empty without a body. Raises InvalidRequestError, also for keys not in `known`."""
    document = await document_of(request) if await request.body() else {}
    if not isinstance(document, dict):
        raise InvalidRequestError("the body is not a JSON object")
    if unknown := sorted(set(document) - known):
        raise InvalidRequestError(f"not honoured: {', '.join(unknown)[:500]}", param=unknown[0][:100])
    return document
