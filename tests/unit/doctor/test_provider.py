from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from unit.llm.conftest import Provider

from streaming_queue.config import Config
from streaming_queue.doctor import provider as module
from streaming_queue.doctor.finding import Level
from streaming_queue.doctor.provider import provider

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

KEY = "k-0123456789-abcdef"
MODELS = Provider.json({"data": [{"id": "qwen"}, {"id": "embedder"}]})


@pytest.fixture
async def server():
    provider = Provider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.serve)
    server = TestServer(app)
    await server.start_server()
    provider.url = str(server.make_url("/v1"))
    yield provider
    await server.close()
    assert provider.requests == []  # no question was asked


async def found(**core):
    (finding,) = await provider(Config.of({"core": core}))
    assert KEY not in f"{finding.seen} {finding.remedy}"
    return finding


def for_the_key(key=KEY):
    async def handle(request):
        given = request.headers["Authorization"] == f"Bearer {key}"
        return await (MODELS if given else Provider.failure(401, f"wrong: {KEY[:9]}..."))(request)

    return handle


async def test_nothing_configured_is_the_mock_and_how_to_get_more():
    finding = await found()
    assert (finding.level, finding.seen) == (
        Level.WARNING,
        "mock (no provider is configured; answers are made up)",
    )
    assert "OPENAI_API_KEY" in finding.remedy
    assert "--model" in finding.remedy


async def test_the_mock_by_choice_is_fine():
    assert (await found(type="mock")).level is Level.OK


async def test_an_accepted_key(server):
    server.models = for_the_key()
    finding = await found(openai_api_key=KEY, openai_base_url=server.url, name="qwen")
    assert finding.level is Level.OK
    assert finding.seen == f"openai at {server.url} (core.openai_api_key): the key is accepted; model qwen is there"


async def test_a_refused_key(server):
    server.models = for_the_key("another")
    finding = await found(openai_api_key=KEY, openai_base_url=server.url, name="qwen")
    assert (finding.level, finding.code) == (Level.PROBLEM, 77)
    assert finding.seen == f"{server.url}: 401 Unauthorized"
    assert "OPENAI_API_KEY" in finding.remedy


async def test_a_local_server_that_wants_a_key(server):
    server.models = for_the_key("another")
    finding = await found(base_url=server.url)
    assert finding.code == 77
    assert "OPENAI_API_KEY is not sent to core.base_url" in finding.remedy


async def test_a_local_server_without_a_key(server):
    server.models = MODELS
    finding = await found(base_url=server.url)
    assert finding.level is Level.OK
    assert finding.seen.endswith("no key is sent; model qwen is there")


async def test_a_list_for_anybody(server):
    server.models = MODELS
    finding = await found(openai_api_key=KEY, openai_base_url=server.url, name="qwen")
    assert finding.level is Level.OK
    assert "lists models without a key" in finding.seen


async def test_a_model_that_is_not_there(server):
    server.models = MODELS
    finding = await found(base_url=server.url, name="qwne")
    assert finding.level is Level.WARNING
    assert "model qwne is not listed" in finding.seen
    assert finding.remedy == "choose one that is: qwen, embedder"


async def test_many_models_are_not_all_named(server):
    server.models = Provider.json({"data": [{"id": f"m{number}"} for number in range(9)]})
    assert (await found(base_url=server.url, name="x")).remedy.endswith("m0, m1, m2, m3, m4 and 4 more")


@pytest.mark.parametrize(("name", "level", "code"), [("qwen", Level.WARNING, 0), (None, Level.PROBLEM, 2)])
async def test_a_server_without_a_list(server, name, level, code):
    server.models = Provider.failure(404)
    finding = await found(base_url=server.url, name=name)
    assert (finding.level, finding.code) == (level, code)


@pytest.mark.parametrize(
    ("status", "level", "code"), [(429, Level.WARNING, 0), (402, Level.PROBLEM, 69), (500, Level.PROBLEM, 69)]
)
async def test_a_server_that_answers_otherwise(server, status, level, code):
    server.models = Provider.failure(status, "secret words")
    finding = await found(base_url=server.url)
    assert (finding.level, finding.code) == (level, code)
    assert finding.remedy
    assert "secret words" not in finding.seen


async def test_a_server_that_hangs(server, monkeypatch):
    async def hang(request):
        await asyncio.Event().wait()

    server.models = hang
    monkeypatch.setattr(module, "STEP_S", 0.2)
    began = time.monotonic()
    finding = await found(base_url=server.url)
    assert time.monotonic() - began < 10
    assert (finding.level, finding.code) == (Level.PROBLEM, 69)


async def test_no_server_there():
    finding = await found(port=9)
    assert (finding.level, finding.code) == (Level.PROBLEM, 69)
    assert finding.seen == "http://127.0.0.1:9/v1: nothing listens at 127.0.0.1:9"


async def test_a_provider_behind_a_proxy_is_asked_by_it(server, monkeypatch):
    server.models = MODELS
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    finding = await found(base_url="http://far.invalid/v1", name="qwen")  # a name that the proxy alone knows
    assert finding.level is Level.OK
    monkeypatch.setenv("no_proxy", "far.invalid")
    assert "the name far.invalid is unknown" in (await found(base_url="http://far.invalid/v1")).seen
