"""OpenAI's API over a served queue: one question to the run `default`, answered in the same response."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from streaming_queue.comm.host.asgi import cancelled_on_disconnect
from streaming_queue.messages import Failure, Question, Result
from streaming_queue.service.openai import chat, response_objects, responses
from streaming_queue.service.openai.conversation import Asked
from streaming_queue.service.openai.objects import model, model_list
from streaming_queue.service.openai.refusals import NotFoundError, envelope, no_answer
from streaming_queue.service.requests import DEFAULT_RUN, checked, document_of, json_response

if TYPE_CHECKING:
    from streaming_queue.queue.runs import QueueOfRuns
    from streaming_queue.service.live import End, LiveQueue

MODEL = "pool/default"
"""The only model: all workers of the queue."""
HEARTBEAT_S = 15.0


class _Form(Protocol):
    """One of the two forms in which an answer is streamed."""

    def opening(self) -> bytes: ...
    def answer(self, result: Result) -> bytes: ...
    def failure(self, error: Exception) -> bytes: ...


class _ChatForm:
    def __init__(self, asked: Asked, id_: str, created: float) -> None:
        self._chunks = chat.Chunks(asked, id_, created)

    def opening(self) -> bytes:
        return chat.event(self._chunks.opening())

    def answer(self, result: Result) -> bytes:
        chunks = [self._chunks.delta(result.answer), *self._chunks.closing(result)]
        return b"".join(map(chat.event, chunks)) + chat.DONE

    def failure(self, error: Exception) -> bytes:
        return chat.event(envelope(error))


class _ResponsesForm:
    def __init__(self, asked: Asked, id_: str, created: float) -> None:
        self._events = response_objects.Events(asked, id_, created)

    def opening(self) -> bytes:
        return _joined(self._events.opening())

    def answer(self, result: Result) -> bytes:
        return _joined([self._events.delta(result.answer), *self._events.closing(result, time.time())])

    def failure(self, error: Exception) -> bytes:
        return _joined([self._events.failed(error)])


def _joined(documents: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(map(response_objects.event, documents))


class OpenAIRoutes:
    """The routes over `queue`, whose questions `live` gives to workers."""

    def __init__(self, queue: QueueOfRuns, live: LiveQueue) -> None:
        self._queue = queue
        self._live = live

    def routes(self) -> list[Route]:
        """The routes of an application."""
        return [
            Route("/v1/models", checked(self.models), methods=["GET"]),
            Route("/v1/chat/completions", checked(self.complete), methods=["POST"]),
            Route("/v1/responses", checked(self.respond), methods=["POST"]),
        ]

    async def models(self, request: Request) -> Response:
        """The models that a request may name."""
        del request
        return json_response(model_list([model(MODEL, created=self._queue.facts(DEFAULT_RUN).created)]))

    async def complete(self, request: Request) -> Response:
        """See OpenAI's chat completions."""
        asked, id_, created = chat.read(await document_of(request)), f"chatcmpl-{secrets.token_hex(12)}", time.time()
        return await self._answer(
            request,
            asked,
            id_,
            _ChatForm(asked, id_, created),
            lambda result: chat.completion(asked, result, id=id_, created=created),
        )

    async def respond(self, request: Request) -> Response:
        """See OpenAI's responses."""
        asked, id_, created = responses.read(await document_of(request)), f"resp_{secrets.token_hex(12)}", time.time()
        return await self._answer(
            request,
            asked,
            id_,
            _ResponsesForm(asked, id_, created),
            lambda result: response_objects.response(asked, result, id=id_, created=created, completed=time.time()),
        )

    async def _answer(
        self, request: Request, asked: Asked, id_: str, form: _Form, document: Callable[[Result], dict[str, Any]]
    ) -> Response:
        """Put the question, and wait for its end. A caller who leaves finds the row in the run."""
        if asked.model != MODEL:
            raise NotFoundError(f"there is no model {asked.model[:100]!r}; name {MODEL!r}", param="model")
        with ExitStack() as stack:
            ending = stack.enter_context(self._live.end_of(DEFAULT_RUN, id_))
            await self._queue.put(DEFAULT_RUN, [Question(asked.text, id_)])
            if asked.stream:
                rest = stack.pop_all()
                return StreamingResponse(_stream(form, ending, rest), media_type="text/event-stream")
            with cancelled_on_disconnect(request.scope):
                end = await ending
        if isinstance(end, Failure):
            raise no_answer(end)
        return json_response(document(end))


async def _stream(form: _Form, ending: asyncio.Future[End], rest: ExitStack) -> AsyncIterator[bytes]:
    """The answer in one piece, after heartbeats: a retried attempt could take pieces back."""
    with rest:
        yield form.opening()
        while not (await asyncio.wait({ending}, timeout=HEARTBEAT_S))[0]:
            yield b": still here\n\n"
        end = ending.result()
        yield form.failure(no_answer(end)) if isinstance(end, Failure) else form.answer(end)
