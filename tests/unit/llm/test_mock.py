from __future__ import annotations

import asyncio
import math
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.errors import BadResponseError, ConfigError
from streaming_queue.llm.base import Chunk
from streaming_queue.llm.mock import FIRST_CHUNK_SHARE, MARK, MockLLM


@dataclass(frozen=True)
class Latency:
    mean: float
    sigma: float


async def ask(llm: MockLLM, question: str, question_id: str | None = None) -> str:
    return "".join([chunk.text async for chunk in llm.stream(question, question_id=question_id)])


def run(llm: MockLLM, question: str, question_id: str | None = None) -> str:
    """The answer of a mock that never waits, without an event loop."""
    coroutine = ask(llm, question, question_id)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the mock waited")


questions = st.text(max_size=200)
seeds = st.integers()


@given(seeds, questions, st.text(max_size=20), st.text(max_size=20))
def test_the_text_depends_on_seed_and_question_alone(seed, question, one, other):
    answer = run(MockLLM(seed=seed), question, one)
    assert answer == run(MockLLM(seed=seed), question, other) == MockLLM(seed=seed).text(question)
    assert answer.startswith(MARK)
    assert len(answer) < 300
    assert answer.isprintable()


@given(seeds, questions, questions)
def test_another_question_or_seed_has_another_answer(seed, one, other):
    llm = MockLLM(seed=seed)
    assert (llm.text(one) == llm.text(other)) is (one == other)
    assert MockLLM(seed=seed + 1).text(one) != llm.text(one)


@pytest.mark.parametrize("question", ["", "为什么天空是蓝色的?", "\ud800", "a\x00b", "😀" * 1000])
def test_any_question_has_an_answer(question):
    assert run(MockLLM(), question).startswith(MARK)


def test_without_latency_there_is_one_chunk_at_once():
    llm = MockLLM()
    with pytest.raises(StopIteration) as end:
        llm.stream("?").__anext__().send(None)
    assert end.value.value == Chunk(llm.text("?"))


def test_without_latency_it_is_cheap():
    llm = MockLLM(failure_rate=1e-9)

    async def many() -> float:
        started = time.process_time()
        for number in range(2000):
            async for _ in llm.stream("a question", question_id=str(number)):
                pass
        return (time.process_time() - started) / 2000

    assert min(asyncio.run(many()) for _ in range(3)) < 50e-6  # about 6 us; a busy machine and tracing cost more


# --- latency ---


@given(seeds, st.text(max_size=20), st.floats(0.1, 1e5), st.floats(0, 3))
def test_latency_depends_on_seed_and_id_alone(seed, name, mean, sigma):
    options = {"seed": seed, "latency_ms": Latency(mean, sigma)}
    latency_ms = MockLLM(**options).latency_ms(name)
    assert latency_ms == MockLLM(**options).latency_ms(name)
    assert 0 < latency_ms < math.inf


@pytest.mark.parametrize("sigma", [0.0, 0.3, 0.8])
def test_the_mean_is_the_distributions_own(sigma):
    llm = MockLLM(seed=7, latency_ms=Latency(200.0, sigma))
    sample = [llm.latency_ms(str(number)) for number in range(20_000)]
    # Five standard errors: sd = mean * sqrt(exp(sigma^2) - 1).
    error = 200 * math.sqrt(math.expm1(sigma**2)) / math.sqrt(len(sample))
    assert statistics.fmean(sample) == pytest.approx(200, abs=5 * error + 1e-9)
    logs = [math.log(latency_ms) for latency_ms in sample]
    assert statistics.pstdev(logs) == pytest.approx(sigma, rel=0.03, abs=1e-9)


@pytest.mark.parametrize("latency_ms", [0, 0.0, Latency(0.0, 1.0)])
def test_no_latency_never_waits(latency_ms):
    assert run(MockLLM(latency_ms=latency_ms), "?") == MockLLM().text("?")


async def test_the_answer_comes_in_pieces_over_its_latency():
    llm = MockLLM(latency_ms=200)
    clock = asyncio.get_running_loop().time
    started = clock()
    pieces, times = [], []
    async for chunk in llm.stream("Why?"):
        pieces.append(chunk.text)
        times.append((clock() - started) * 1000)
    assert "".join(pieces) == llm.text("Why?")
    assert len(pieces) > 2
    assert all(2 <= len(piece.split()) <= 4 for piece in pieces[:-1])
    assert 200 * FIRST_CHUNK_SHARE <= times[0] < 190
    assert 199 <= times[-1] < 1000
    assert times == sorted(times)


async def test_concurrent_answers_wait_side_by_side():
    llm = MockLLM(latency_ms=100)
    started = time.perf_counter()
    answers = await asyncio.gather(*(ask(llm, str(number)) for number in range(200)))
    assert time.perf_counter() - started < 2
    assert answers == [llm.text(str(number)) for number in range(200)]


# --- failures ---


def fails(llm: MockLLM, question: str, question_id: str | None = None) -> bool:
    try:
        run(llm, question, question_id)
    except BadResponseError:
        return True
    return False


def test_the_share_of_ids_that_fail():
    llm = MockLLM(seed=3, failure_rate=0.1)
    failed = {number for number in range(5000) if fails(llm, "?", str(number))}
    assert len(failed) == pytest.approx(500, abs=5 * math.sqrt(5000 * 0.1 * 0.9))
    assert failed == {number for number in range(5000) if fails(llm, "another text", str(number))}
    assert failed != {number for number in range(5000) if fails(MockLLM(seed=4, failure_rate=0.1), "?", str(number))}


@given(questions)
def test_none_and_all_are_exact(question):
    assert not fails(MockLLM(failure_rate=0), question)
    assert fails(MockLLM(failure_rate=1), question)


def test_without_an_id_the_text_stands_in():
    llm = MockLLM(failure_rate=0.5)
    assert [fails(llm, str(n)) for n in range(50)] == [fails(llm, "?", str(n)) for n in range(50)]


async def test_a_failure_comes_after_its_latency():
    started = time.perf_counter()
    with pytest.raises(BadResponseError, match=r"^mock failure \(mock\.failure_rate is 1\)"):
        await ask(MockLLM(latency_ms=50, failure_rate=1), "?")
    assert time.perf_counter() - started >= 0.049


@pytest.mark.parametrize(
    "options",
    [
        {"latency_ms": -1},
        {"latency_ms": math.inf},
        {"latency_ms": math.nan},
        {"latency_ms": Latency(-1, 0)},
        {"latency_ms": Latency(5, -1)},
        {"latency_ms": Latency(5, math.nan)},
        {"failure_rate": 1.5},
        {"failure_rate": -0.1},
        {"failure_rate": math.nan},
    ],
)
def test_a_value_out_of_range_is_refused(options):
    with pytest.raises(ConfigError, match=rf"mock\.{next(iter(options))}"):
        MockLLM(**options)


def test_it_says_what_it_is_and_imports_no_sdk():
    assert (MockLLM.provider, MockLLM.is_mock, MockLLM().model) == ("mock", True, "mock")
    script = (
        "import sys, streaming_queue.llm.mock; assert not {'openai', 'httpx', 'httpx2', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
