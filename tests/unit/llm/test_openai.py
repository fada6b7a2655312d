from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import pytest
from aiohttp import web

from streaming_queue.errors import (
    AuthError,
    BackendNotInstalledError,
    BadResponseError,
    ConfigError,
    LLMError,
    LLMTimeoutError,
    QuotaError,
    RateLimitedError,
)
from streaming_queue.llm import openai as module
from streaming_queue.llm.base import KeyState, ModelListing
from streaming_queue.llm.mock import MockLLM
from streaming_queue.llm.openai import DEFAULT_MODEL, OpenAILLM

from .conftest import GOOD, KEY, STOP, USAGE, USAGE_CHUNK, Provider, delta


async def ask(llm: OpenAILLM, question: str = "Why?") -> str:
    return "".join([chunk.text async for chunk in llm.stream(question)])


async def test_text_comes_in_pieces_and_usage_last(llm, provider):
    chunks = [chunk async for chunk in llm.stream("Why?")]
    assert [chunk.text for chunk in chunks] == ["Hel", "lo", ""]
    assert [chunk.usage for chunk in chunks] == [None, None, USAGE]
    assert provider.paths == ["/v1/chat/completions"]
    assert provider.requests == [
        {
            "model": "m-1",
            "messages": [{"role": "user", "content": "Why?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]
    assert provider.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_settings_reach_the_wire(make_llm, provider):
    await ask(make_llm(temperature=0.0, max_tokens=5), "问题 😀")
    request = provider.requests[0]
    assert (request["temperature"], request["max_tokens"]) == (0.0, 5)
    assert request["messages"][0]["content"] == "问题 😀"


async def test_a_stream_without_usage_ends_with_its_text(llm, provider):
    provider.handler = Provider.stream(delta("答案"), STOP)
    chunks = [chunk async for chunk in llm.stream("?")]
    assert [(chunk.text, chunk.usage) for chunk in chunks] == [("答案", None)]


async def test_a_missing_done_mark_is_no_loss(llm, provider):
    provider.handler = Provider.stream(delta("yes"), STOP, done=False)
    assert await ask(llm) == "yes"


async def test_the_usage_after_the_last_choice_is_an_end_too(llm, provider):
    provider.handler = Provider.stream(delta("yes"), USAGE_CHUNK)
    assert await ask(llm) == "yes"


async def test_the_first_piece_arrives_before_the_last_is_sent(llm, provider):
    go_on = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(delta('first'))}\n\n".encode())
        await go_on.wait()
        await response.write(f"data: {json.dumps(delta(' last', finish='stop'))}\n\n".encode())
        return response

    provider.handler = handle
    async with asyncio.timeout(5):
        stream = llm.stream("?")
        assert (await anext(stream)).text == "first"
        go_on.set()
        assert [chunk.text async for chunk in stream] == [" last"]


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_leaving_the_stream_ends_the_request(llm, provider, how):
    started, gone = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(f"data: {json.dumps(delta('more '))}\n\n".encode())
                started.set()
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    provider.handler = handle
    async with asyncio.timeout(5):
        if how == "close":
            stream = llm.stream("?")
            await anext(stream)
            await stream.aclose()
        else:
            task = asyncio.create_task(ask(llm))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await gone.wait()


async def test_concurrent_questions_share_one_client(make_llm, provider):
    llm = make_llm()
    assert await asyncio.gather(*(ask(llm, str(number)) for number in range(20))) == ["Hello"] * 20
    assert {request["messages"][0]["content"] for request in provider.requests} == {str(n) for n in range(20)}


async def test_close_is_idempotent_and_before_use_too(make_llm):
    llm = make_llm()
    await llm.close()
    assert await ask(llm) == "Hello"
    await llm.close()
    await llm.close()


# --- dialects ---


async def test_a_server_that_refuses_stream_options_is_asked_without_once_and_for_all(llm, provider):
    async def handle(request: web.Request) -> web.StreamResponse:
        refused = Provider.json({"object": "error", "message": {"detail": "Extra inputs are not permitted"}}, 422)
        return await (refused if "stream_options" in await request.json() else Provider.stream(delta("ok"), STOP))(
            request
        )

    provider.handler = handle
    assert await ask(llm) == "ok"
    assert await ask(llm) == "ok"
    assert ["stream_options" in request for request in provider.requests] == [True, False, False]


async def test_once_stream_options_were_taken_a_refusal_is_about_the_question(llm, provider):
    await ask(llm)
    provider.handler = Provider.failure(400, "the question is too long")
    with pytest.raises(LLMError, match="400 Bad Request: the question is too long"):
        await ask(llm)
    assert len(provider.requests) == 2


async def test_a_second_refusal_without_stream_options_is_raised(llm, provider):
    provider.handler = Provider.failure(400, "no such role")
    with pytest.raises(LLMError, match="no such role"):
        await ask(llm)
    assert ["stream_options" in request for request in provider.requests] == [True, False]


async def test_the_limit_of_tokens_is_renamed_where_the_server_wants_it(make_llm, provider):
    async def handle(request: web.Request) -> web.StreamResponse:
        refused = Provider.failure(400, "Unsupported parameter", code="unsupported_parameter", param="max_tokens")
        return await (refused if "max_tokens" in await request.json() else Provider.stream(*GOOD))(request)

    provider.handler = handle
    llm = make_llm(max_tokens=9)
    assert await ask(llm) == "Hello"
    assert await ask(llm) == "Hello"
    assert [(r.get("max_tokens"), r.get("max_completion_tokens")) for r in provider.requests] == [
        (9, None),
        (None, 9),
        (None, 9),
    ]
    assert provider.requests[-1]["stream_options"] == {"include_usage": True}


async def test_a_server_that_refuses_both_names_is_not_asked_for_ever(make_llm, provider):
    async def handle(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        return await Provider.failure(400, param="max_tokens" if "max_tokens" in asked else "max_completion_tokens")(
            request
        )

    provider.handler = handle
    with pytest.raises(LLMError):
        await ask(make_llm(max_tokens=9))
    assert len(provider.requests) == 2


# --- models ---


async def test_without_a_name_the_first_model_listed_answers(make_llm, provider):
    provider.models = Provider.json({"object": "list", "data": [{"id": "qwen"}, {"id": "embedder"}]})
    llm = make_llm(None, api_key=None)
    assert llm.model == ""
    await asyncio.gather(ask(llm), ask(llm))
    assert llm.model == "qwen"
    assert [request["model"] for request in provider.requests] == ["qwen", "qwen"]
    assert provider.paths.count("/v1/models") == 1
    assert provider.headers[0]["Authorization"] == "Bearer not-needed"


@pytest.mark.parametrize(
    "models",
    [
        Provider.json({"object": "list", "data": []}),
        Provider.json({"data": "nonsense"}),
        Provider.json({"data": [{"id": 5}, {}]}),
        Provider.json(["nonsense"]),
        Provider.failure(404),
        Provider.text("<html>hello</html>"),
    ],
    ids=["none", "no list", "no ids", "no object", "not served", "html"],
)
async def test_without_a_name_and_a_list_the_name_is_asked_for(make_llm, provider, models):
    provider.models = models
    with pytest.raises(ConfigError, match=rf"{provider.url} lists no models: name one in core\.name"):
        await ask(make_llm(None))
    assert provider.requests == []


async def test_a_failed_list_is_the_servers_failure(make_llm, provider):
    provider.models = Provider.failure(503, "loading")
    with pytest.raises(LLMError, match="503 Service Unavailable: loading") as caught:
        await ask(make_llm(None))
    assert caught.value.retryable


MODELS = {"object": "list", "data": [{"id": "qwen"}, {"id": "embedder"}]}


def for_the_key(key, status=401):
    """A list of models for who has the key."""

    async def handle(request):
        given = request.headers["Authorization"] == f"Bearer {key}"
        return await (Provider.json(MODELS) if given else Provider.failure(status, f"not {key[:9]}..."))(request)

    return handle


async def test_the_listing_says_that_the_key_is_accepted(make_llm, provider):
    provider.models = for_the_key(KEY)
    assert await make_llm().listing(3) == ModelListing(("qwen", "embedder"), KeyState.ACCEPTED)
    assert [headers["Authorization"] for headers in provider.headers] == [f"Bearer {KEY}", "Bearer not-needed"]
    assert provider.requests == []


@pytest.mark.parametrize("status", [500, 429])
async def test_a_control_that_fails_proves_nothing(make_llm, provider, status):
    provider.models = for_the_key(KEY, status)
    assert (await make_llm().listing(3)).key is KeyState.NOT_CHECKED


async def test_a_list_for_anybody_says_nothing_about_the_key(make_llm, provider):
    provider.models = Provider.json(MODELS)
    assert (await make_llm().listing(3)).key is KeyState.NOT_CHECKED


async def test_without_a_key_there_is_none_to_accept(make_llm, provider):
    provider.models = Provider.json(MODELS)
    assert await make_llm(api_key=None).listing(3) == ModelListing(("qwen", "embedder"), KeyState.NOT_SENT)


async def test_a_server_may_keep_no_list(make_llm, provider):
    provider.models = Provider.failure(404)
    assert await make_llm().listing(3) == ModelListing((), KeyState.NOT_CHECKED)


@pytest.mark.parametrize(
    ("status", "cls"), [(401, AuthError), (403, AuthError), (429, RateLimitedError), (402, QuotaError), (400, LLMError)]
)
async def test_a_listing_refused_leaves_out_the_providers_words(make_llm, provider, status, cls):
    provider.models = Provider.failure(status, f"the key {KEY[:12]}...{KEY[-6:]} is wrong")
    with pytest.raises(cls) as caught:
        await make_llm().listing(3)
    assert str(caught.value).startswith(f"{provider.url}: {status} ")
    assert "wrong" not in str(caught.value)
    assert KEY[:12] not in str(caught.value)


async def test_a_listing_is_waited_for_so_long(make_llm, provider):
    async def hang(request):
        await asyncio.Event().wait()

    provider.models = hang
    with pytest.raises(LLMTimeoutError, match=r"no list of models within 0\.1 s"):
        await make_llm().listing(0.1)


async def test_a_listing_without_a_server(make_llm):
    with pytest.raises(LLMError, match="the connection failed"):
        await make_llm(base_url="http://127.0.0.1:9/v1").listing(3)


async def test_the_mock_lists_nothing():
    assert await MockLLM().listing(3) is None


def test_openai_itself_has_a_default_model_and_the_newer_name():
    llm = OpenAILLM(api_key=KEY)
    assert (llm.model, llm.origin) == (DEFAULT_MODEL, "https://api.openai.com/v1")
    assert llm._dialect.limit == "max_completion_tokens"
    assert OpenAILLM(api_key=KEY, base_url="https://api.openai.com/v1/").model == DEFAULT_MODEL


# --- construction ---


@pytest.mark.parametrize("url", [None, "https://api.openai.com/v1", "https://eu.api.openai.com/v1"])
def test_openai_itself_wants_a_key(url):
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        OpenAILLM("m", base_url=url)
    assert OpenAILLM(base_url=url, api_key=KEY).model == DEFAULT_MODEL


def test_a_server_of_ones_own_needs_no_key():
    assert OpenAILLM(base_url="http://notapi.openai.com.example/v1").model == ""
    assert OpenAILLM(base_url="http://xapi.openai.com/v1").model == ""


@pytest.mark.parametrize("key", ["sk-with\nline-break", "sk-“quoted”", "sk with blank"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key):
    with pytest.raises(ConfigError) as caught:
        OpenAILLM("m", api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http:///v1"])
def test_a_base_url_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="http://host:port/v1"):
        OpenAILLM("m", base_url=url)


def test_a_missing_sdk_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(BackendNotInstalledError, match="pip install 'openai>="):
        OpenAILLM("m", api_key=KEY)


def test_the_address_shown_has_no_credentials():
    llm = OpenAILLM("m", base_url="http://user:secret@host:8000/v1?token=secret")
    assert llm.origin == "http://host:8000/v1"


def test_the_sdk_is_imported_only_by_an_answer():
    script = (
        "import sys\n"
        "import streaming_queue.llm.mock, streaming_queue.llm.choice, streaming_queue.llm.openai as o\n"
        "o.OpenAILLM('m', api_key='sk-0123456789')\n"
        "assert 'openai' not in sys.modules and 'httpx2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


# --- streams that will not do ---


@pytest.mark.parametrize(
    ("events", "words", "retryable"),
    [
        ((), "the stream is empty", True),
        ((delta("Hel"),), "ended before the answer did", True),
        ((delta("Hel"), {**delta("lo"), "usage": USAGE}), "ended before the answer did", True),
        ((USAGE_CHUNK,), r"the answer is empty \(finish_reason missing\)", True),
        ((STOP,), r"the answer is empty \(finish_reason stop\)", True),
        ((delta(finish="content_filter"),), "content filter left no text", False),
        ((delta(finish="length"),), r"limit of tokens .*core\.max_tokens is 4", False),
        ((delta(refusal="I will "), delta(refusal="not."), STOP), "the model refused: I will not.", False),
        (("{not json",), "the stream is malformed", True),
        (("[]",), "no chat completion chunk", True),
        (('"text"',), "no chat completion chunk", True),
        (('{"choices": 5}',), "no chat completion chunk", True),
        ((delta({"parts": 1}), STOP), "content is no text", True),
        ((delta("a"), "null", STOP), "no chat completion chunk", True),
    ],
)
async def test_a_stream_without_a_usable_answer(make_llm, provider, events, words, retryable):
    provider.handler = Provider.stream(*events)
    with pytest.raises(BadResponseError, match=words) as caught:
        await ask(make_llm(max_tokens=4))
    assert caught.value.retryable is retryable
    assert str(caught.value).startswith(provider.url)


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (Provider.text("<html>Log in</html>"), "200 with text/html.*no event stream; the base URL usually ends in /v1"),
        (Provider.json({"choices": [{"message": {"content": "whole"}}]}), "200 with application/json"),
        (Provider.text("\ufffd\x00garbage", content_type="application/octet-stream"), "octet-stream"),
    ],
)
async def test_a_good_status_without_a_stream(llm, provider, handler, words):
    provider.handler = handler
    with pytest.raises(BadResponseError, match=words):
        await ask(llm)


async def test_bytes_that_are_no_text(llm, provider):
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"data: \xff\xfe\n\n", content_type="text/event-stream")

    provider.handler = handle
    with pytest.raises(BadResponseError, match="malformed"):
        await ask(llm)


async def test_a_text_that_was_cut_by_its_limit_is_an_answer(llm, provider):
    provider.handler = Provider.stream(delta("as far as"), delta(finish="length"))
    assert await ask(llm) == "as far as"


async def test_a_question_that_is_no_unicode_is_not_sent(llm, provider):
    with pytest.raises(LLMError, match="cannot be sent") as caught:
        await ask(llm, "\ud800")
    assert not caught.value.retryable
    assert provider.requests == []


async def test_the_module_names_its_remedy_for_a_refused_connection():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        llm = OpenAILLM("m", base_url=url)
        with pytest.raises(LLMError, match=f"^{url}: the connection failed") as caught:
            await ask(llm)
        await llm.close()
    assert caught.value.retryable
    assert type(caught.value) is LLMError
    assert module.PLACEHOLDER_KEY not in str(caught.value)
