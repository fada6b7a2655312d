"""A real HTTP server on a free port that speaks the chat completions' wire format, as told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from streaming_queue.llm.openai import OpenAILLM

KEY = "sk-test-0123456789abcdef"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def delta(content: str | None = None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chat completion chunk, as the API's reference shows it."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": content, **more}, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
USAGE_CHUNK = {**delta(), "choices": [], "usage": USAGE}
STOP = delta(finish="stop")
GOOD = (delta("Hel"), delta("lo"), STOP, USAGE_CHUNK)


class Provider:
    """The server, what it was asked, and how it answers next."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.handler: Handler = self.stream(*GOOD)
        self.models: Handler = self.json({"object": "list", "data": []})
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        if request.method == "GET":
            return await self.models(request)
        self.requests.append(await request.json())
        return await self.handler(request)

    @staticmethod
    def stream(*events: Any, done: bool = True, content_type: str = "text/event-stream") -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"content-type": content_type})
            await response.prepare(request)
            for event in events:
                text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
                await response.write(f"data: {text}\n\n".encode())
            if done:
                await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
            return response

        return handle

    @staticmethod
    def json(body: Any, status: int = 200, **headers: str) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.json_response(body, status=status, headers=named)

        return handle

    @classmethod
    def failure(
        cls, status: int, message: str = "no", *, code: Any = None, param: Any = None, **headers: str
    ) -> Handler:
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        return cls.json({"error": error}, status, **headers)

    @staticmethod
    def text(body: str, status: int = 200, content_type: str = "text/html") -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return web.Response(text=body, status=status, content_type=content_type)

        return handle


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.serve)
    server = TestServer(app)
    await server.start_server()
    provider.url = str(server.make_url("/v1"))
    yield provider
    await server.close()


@pytest.fixture
async def make_llm(provider: Provider) -> AsyncIterator[Callable[..., OpenAILLM]]:
    made: list[OpenAILLM] = []

    def make(model: str | None = "m-1", **options: Any) -> OpenAILLM:
        llm = OpenAILLM(model, **{"api_key": KEY, "base_url": provider.url, **options})
        made.append(llm)
        return llm

    yield make
    for llm in made:
        await llm.close()


@pytest.fixture
def llm(make_llm: Callable[..., OpenAILLM]) -> OpenAILLM:
    return make_llm()
