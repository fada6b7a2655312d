from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from streaming_queue.comm.context import CallContext, annotating, calling
from streaming_queue.config import Config
from streaming_queue.core.qa_worker_base import QAWorkerBase
from streaming_queue.errors import BadResponseError, ConfigError, RateLimitedError
from streaming_queue.llm.base import LLM, Chunk
from streaming_queue.llm.choice import ProviderChoice
from streaming_queue.llm.mock import MockLLM

INSTANT = {"core": {"type": "mock"}, "mock": {"latency_ms": 0}}


class Scripted(LLM):
    """A provider that says what it is told."""

    provider = "scripted"

    def __init__(self, chunks: Sequence[Chunk | Exception | float]) -> None:
        super().__init__("s-1")
        self.chunks = chunks
        self.asked: list[tuple[str, str | None]] = []
        self.ended = 0
        self.closed = 0

    async def stream(self, question: str, *, question_id: str | None = None) -> AsyncGenerator[Chunk, None]:
        self.asked.append((question, question_id))
        try:
            for chunk in self.chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                if isinstance(chunk, float):
                    await asyncio.sleep(chunk)
                else:
                    yield chunk
        finally:
            self.ended += 1

    async def close(self) -> None:
        self.closed += 1


def worker_with(*chunks: Chunk | Exception | float) -> tuple[QAWorkerBase, Scripted]:
    worker, llm = QAWorkerBase(INSTANT), Scripted(chunks)
    worker.choice = ProviderChoice(llm, "a test")
    return worker, llm


@pytest.mark.parametrize("config", [INSTANT, Config.of(INSTANT)])
async def test_the_mock_answers_by_default_with_the_guides_signature(config):
    worker = QAWorkerBase(config, None)
    answer = await worker.answer("Why?")
    assert answer == MockLLM().text("Why?")
    assert isinstance(worker.llm, MockLLM)


async def test_no_configuration_is_the_mock():
    assert QAWorkerBase().choice.describe() == "LLM: mock (no provider is configured; answers are made up)"


def test_a_wrong_configuration_is_refused_at_once():
    with pytest.raises(ConfigError):
        QAWorkerBase({"core": {"typ": "mock"}})


def test_the_provider_is_chosen_on_first_use():
    worker = QAWorkerBase({"core": {"type": "openai"}})
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        _ = worker.llm


async def test_what_it_cost_rides_back():
    usage = {"total_tokens": 3}
    worker, _ = worker_with(0.02, Chunk(""), Chunk("Hel"), 0.03, Chunk("lo"), Chunk("", usage))
    figures: dict[str, Any] = {}
    with annotating(figures):
        assert await worker.answer("?") == "Hello"
    assert (figures.pop("model"), figures.pop("mock"), figures.pop("usage")) == ("s-1", False, usage)
    assert 19 <= figures["ttft_ms"] <= figures["llm_ms"] - 29
    assert figures.pop("llm_ms") < 1000
    figures.pop("ttft_ms")
    assert figures == {}


async def test_the_mock_says_so_and_makes_up_no_usage():
    figures: dict[str, Any] = {}
    with annotating(figures):
        await QAWorkerBase(INSTANT).answer("?")
    assert set(figures) == {"llm_ms", "ttft_ms", "model", "mock"}
    assert (figures["model"], figures["mock"]) == ("mock", True)


async def test_deltas_are_the_pieces_and_nothing_empty():
    worker, _ = worker_with(Chunk(""), Chunk("a "), Chunk(""), Chunk("b"))
    assert [delta async for delta in worker.stream_answer("?")] == ["a ", "b"]


async def test_the_question_goes_with_its_id():
    worker, llm = worker_with(Chunk("a"))
    await worker.answer("no id")
    with calling(CallContext(question_id="q-1")):
        await worker.answer("with id")
    assert llm.asked == [("no id", None), ("with id", "q-1")]


async def test_the_mocks_failures_follow_the_id():
    worker = QAWorkerBase({"core": {"type": "mock"}, "mock": {"latency_ms": 0, "failure_rate": 0.5}})

    async def failed(number: int) -> bool:
        with calling(CallContext(question_id=str(number))):
            try:
                await worker.answer("the same text")
            except BadResponseError:
                return True
            return False

    outcomes = [await failed(number) for number in range(100)]
    assert 25 < sum(outcomes) < 75
    assert outcomes == [await failed(number) for number in range(100)]


@pytest.mark.parametrize("chunks", [(), (Chunk(""),), (Chunk(" \n"), Chunk("\t")), (Chunk("", {"total_tokens": 1}),)])
async def test_an_empty_answer_is_a_failure(chunks):
    worker, _ = worker_with(*chunks)
    figures: dict[str, Any] = {}
    with annotating(figures), pytest.raises(BadResponseError, match="scripted s-1: the answer is empty"):
        await worker.answer("?")
    assert figures == {}


async def test_a_failure_of_the_provider_passes_as_it_is():
    error = RateLimitedError("slow down", retry_after_s=3)
    worker, llm = worker_with(Chunk("Hel"), error)
    with pytest.raises(RateLimitedError) as caught:
        await worker.answer("?")
    assert caught.value is error
    assert llm.ended == 1


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_leaving_closes_the_providers_stream(how):
    worker, llm = worker_with(Chunk("a"), 30.0)
    if how == "close":
        deltas = worker.stream_answer("?")
        await anext(deltas)
        await deltas.aclose()
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await worker.answer("?")
    assert llm.ended == 1


async def test_a_subclass_may_override_only_answer():
    class Parrot(QAWorkerBase):
        async def answer(self, question: str) -> str:
            return f"{question}!"

    assert await Parrot().answer("hi") == "hi!"
    assert Parrot({"core": {"type": "openai"}}).status() == "ready"


async def test_a_subclass_may_override_only_the_stream():
    class Counter(QAWorkerBase):
        async def stream_answer(self, question: str) -> AsyncGenerator[str, None]:
            for number in range(3):
                yield f"{question}{number}"

    assert await Counter().answer("n") == "n0n1n2"


def test_status_names_the_model_and_asks_it_nothing():
    worker, llm = worker_with(Chunk("a"))
    assert worker.status() == "ready, LLM: scripted, s-1 (a test)"
    assert llm.asked == []


async def test_close_closes_the_provider_only_if_there_is_one():
    worker, llm = worker_with()
    await worker.close()
    assert llm.closed == 1
    unused = QAWorkerBase({"core": {"type": "openai"}})
    await unused.close()
