from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
import time
import traceback
from email.utils import formatdate

import pytest
from aiohttp import web

from streaming_queue.errors import (
    AuthError,
    LLMError,
    LLMTimeoutError,
    QuotaError,
    RateLimitedError,
    StreamingQueueError,
)
from streaming_queue.llm.openai import OpenAILLM
from streaming_queue.llm.openai_errors import MESSAGE_LIMIT, retry_after

from .conftest import GOOD, KEY, Provider, delta


async def failure(llm) -> StreamingQueueError:
    with pytest.raises(StreamingQueueError) as caught:
        async for _ in llm.stream("Why?"):
            pass
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, (LLMError, False)),
        (401, "invalid_api_key", (AuthError, False)),
        (402, None, (QuotaError, False)),
        (403, None, (AuthError, False)),
        (404, "model_not_found", (LLMError, False)),
        (408, None, (LLMTimeoutError, True)),
        (409, None, (LLMError, True)),
        (413, None, (LLMError, False)),
        (422, None, (LLMError, False)),
        (429, "rate_limit_exceeded", (RateLimitedError, True)),
        (429, None, (RateLimitedError, True)),
        (429, "insufficient_quota", (QuotaError, False)),
        (500, None, (LLMError, True)),
        (502, None, (LLMError, True)),
        (503, None, (LLMError, True)),
        (504, None, (LLMTimeoutError, True)),
        (529, None, (LLMError, True)),
    ],
)
async def test_every_status_has_its_class(llm, provider, status, code, kind):
    provider.handler = Provider.failure(status, "the provider's words", code=code)
    error = await failure(llm)
    assert (type(error), error.retryable) == kind
    assert str(error).startswith(f"{provider.url}: {status}")
    assert str(error).endswith("the provider's words")


async def test_nothing_is_retried_here(llm, provider):
    provider.handler = Provider.failure(503)
    await failure(llm)
    assert len(provider.requests) == 1


async def test_quota_as_a_type(llm, provider):
    provider.handler = Provider.json({"error": {"message": "no", "type": "insufficient_quota"}}, 429)
    assert type(await failure(llm)) is QuotaError


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.25"}, 0.25),
        ({"retry_after_ms": "1500", "retry_after": "7"}, 1.5),
        ({}, None),
        ({"retry_after": "soon"}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_the_wish_to_wait_is_passed_on(llm, provider, headers, expected, status):
    provider.handler = Provider.failure(status, **headers)
    assert (await failure(llm)).retry_after_s == expected


def test_a_date_to_wait_for():
    assert retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": formatdate(time.time() - 30, usegmt=True)}) == 0.0


@pytest.mark.parametrize("value", ["", "nan", "inf", "-3", "1e999", "Fri, 99 Foo"])
def test_a_wish_that_is_none(value):
    assert retry_after({"retry-after": value}) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "plain"}}, "plain"),
        ({"message": "flat"}, "flat"),
        ({"detail": "FastAPI's"}, "FastAPI's"),
        ({"error": "a bare text"}, "a bare text"),
        ({"object": "error", "message": {"detail": [{"loc": ["body", "x"]}]}}, '"loc": ["body", "x"]'),
        ({"weird": 1}, '{"weird": 1}'),
        ({"error": {"message": None, "type": {"a": 1}, "code": [1]}}, '"type": {"a": 1}'),
        ([1, 2], "500 Internal Server Error"),
        ({}, "500 Internal Server Error"),
    ],
)
async def test_the_providers_words_in_many_shapes(llm, provider, body, words):
    provider.handler = Provider.json(body, 500)
    assert str(await failure(llm)).endswith(words) or words in str(await failure(llm))


async def test_a_web_page_is_not_quoted(llm, provider):
    provider.handler = Provider.text("<html>nginx</html>", 404)
    error = await failure(llm)
    assert str(error).endswith("404 Not Found: no chat completions there; the base URL usually ends in /v1")


async def test_a_plain_text_is_quoted_on_one_line_and_shortened(llm, provider):
    provider.handler = Provider.text("upstream\n  failed " + "x" * 2000, 502, "text/plain")
    text = str(await failure(llm))
    assert "upstream failed xxx" in text
    assert len(text) < MESSAGE_LIMIT + 100


async def test_a_redirect_is_not_followed(llm, provider):
    async def handle(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("/elsewhere")

    provider.handler = handle
    error = await failure(llm)
    assert "307 Temporary Redirect: it redirects" in str(error)
    assert not error.retryable
    assert provider.paths == ["/v1/chat/completions"]


# --- failures within a stream ---


@pytest.mark.parametrize(
    ("told", "cls", "retryable"),
    [
        ({"message": "boom", "type": "server_error", "code": None}, LLMError, True),
        ({"message": "slow", "code": "rate_limit_exceeded"}, RateLimitedError, True),
        ({"message": "paid up", "code": "insufficient_quota"}, QuotaError, False),
        ({"message": "too long", "type": "BadRequestError", "code": 400}, LLMError, False),
        ({"message": "busy", "code": 503}, LLMError, True),
        ({"message": "not ours", "code": "weird"}, LLMError, True),
    ],
)
async def test_a_failure_in_the_middle_of_the_stream(llm, provider, told, cls, retryable):
    provider.handler = Provider.stream(delta("Hel"), {"error": told})
    error = await failure(llm)
    assert (type(error), error.retryable) == (cls, retryable)
    assert told["message"] in str(error)


async def test_a_connection_that_breaks_in_the_middle(llm, provider):
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(delta('Hel'))}\n\n".encode())
        request.transport.close()
        return response

    provider.handler = handle
    error = await failure(llm)
    assert type(error) is LLMError
    assert error.retryable
    assert str(error).startswith(f"{provider.url}: the connection failed: ")


@pytest.mark.parametrize("after", [0, 1])
async def test_silence_is_a_timeout(make_llm, provider, after):
    over = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        if after:
            await response.prepare(request)
            await response.write(f"data: {json.dumps(delta('Hel'))}\n\n".encode())
        await over.wait()
        return response

    provider.handler = handle
    started = time.perf_counter()
    error = await failure(make_llm(timeout_s=0.2))
    over.set()
    assert type(error) is LLMTimeoutError
    assert "core.timeout_s is 0.2" in str(error)
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize("line", [": keepalive\n\n", f"data: {json.dumps(delta(''))}\n\n"])
async def test_signs_of_life_are_no_text(make_llm, provider, line):
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(delta('Hel'))}\n\n".encode())
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(line.encode())
                await asyncio.sleep(0.02)
        return response

    provider.handler = handle
    error = await failure(make_llm(timeout_s=0.3))
    assert type(error) is LLMTimeoutError


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux drops what a full backlog cannot take")
async def test_a_server_that_takes_no_connection_is_a_timeout():
    loop = asyncio.get_running_loop()
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            filling = asyncio.ensure_future(loop.sock_connect(waiting, deaf.getsockname()))
            await asyncio.wait({filling}, timeout=0.1)
            filling.cancel()
        llm = OpenAILLM("m", base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", timeout_s=0.2)
        async with asyncio.timeout(5):
            error = await failure(llm)
        await llm.close()
    assert type(error) is LLMTimeoutError
    assert "ConnectTimeout" in str(error)


async def test_the_limit_is_on_silence_not_on_the_whole_answer(make_llm, provider):
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in (delta("a"), delta("b"), delta("c"), delta("d"), *GOOD[2:]):
            await asyncio.sleep(0.15)
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        return response

    provider.handler = handle
    assert "".join([chunk.text async for chunk in make_llm(timeout_s=0.5).stream("?")]) == "abcd"


# --- secrets ---


@pytest.mark.parametrize(
    "handler",
    [
        Provider.failure(401, f"Incorrect API key provided: {KEY}. You can find it elsewhere."),
        Provider.failure(401, "Incorrect API key provided: sk-test-*********cdef."),
        Provider.failure(500, f"header was Bearer {KEY}"),
        Provider.json({"weird": {"authorization": f"Bearer {KEY}"}}, 500),
        Provider.stream({"error": {"message": f"bad {KEY}"}}),
        Provider.stream(delta(refusal=f"I know {KEY}"), delta(finish="stop")),
    ],
)
async def test_the_key_shows_nowhere(llm, provider, handler, caplog):
    caplog.set_level(logging.DEBUG)
    provider.handler = handler
    error = await failure(llm)
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(llm) + caplog.text
    assert KEY not in shown
    assert "cdef" not in shown
    assert "[redacted]" in str(error)


async def test_a_key_of_any_look_is_hidden(make_llm, provider):
    provider.handler = Provider.failure(400, "you sent: own+server/key=7")
    assert str(await failure(make_llm(api_key="own+server/key=7"))).endswith("you sent: [redacted]")


async def test_a_placeholder_key_garbles_no_message(make_llm, provider):
    provider.handler = Provider.failure(400, "no model, none at all")
    assert "no model, none at all" in str(await failure(make_llm(api_key="no")))
