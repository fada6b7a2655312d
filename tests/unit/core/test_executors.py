from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from streaming_queue.comm.context import RequestContext
from streaming_queue.core.executors import WorkerExecutor
from streaming_queue.core.qa_worker_base import QAWorkerBase
from streaming_queue.errors import BadResponseError, RateLimitedError
from streaming_queue.llm.mock import MockLLM
from streaming_queue.messages import DELTA, MESSAGE
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend

CONFIG = {"core": {"type": "mock"}, "mock": {"latency_ms": 0}}
SLOW = {"core": {"type": "mock"}, "mock": {"latency_ms": 20}}


class Events(list[dict[str, Any]]):
    async def enqueue_event(self, event: Any) -> None:
        self.append(event)


class AnswersOnly(QAWorkerBase):
    async def answer(self, question: str) -> str:
        return f"only {question}"


class StreamsOnly(QAWorkerBase):
    async def stream_answer(self, question: str) -> AsyncGenerator[str, None]:
        yield "piece "
        yield question


class AnswersAfterAll(StreamsOnly):
    async def answer(self, question: str) -> str:
        return f"last {question}"


class StreamsAfterAll(AnswersOnly):
    async def stream_answer(self, question: str) -> AsyncGenerator[str, None]:
        yield question


async def execute(
    executor: WorkerExecutor, text: str = "Why?", *, streaming: bool = False, kind: str | None = None
) -> Events:
    events = Events()
    payload: dict[str, Any] = {"text": text}
    if kind:
        payload["metadata"] = {"kind": kind}
    await executor.execute(RequestContext(payload, agent_id="Worker-1", streaming=streaming), events)
    return events


async def test_a_question_gets_one_message():
    assert await execute(WorkerExecutor(CONFIG)) == [{"type": MESSAGE, "data": MockLLM().text("Why?")}]


async def test_deltas_come_first_where_somebody_reads_them():
    *deltas, last = await execute(WorkerExecutor(SLOW), streaming=True)
    assert last == {"type": MESSAGE, "data": MockLLM().text("Why?")}
    assert len(deltas) > 2
    assert {event["type"] for event in deltas} == {DELTA}
    assert "".join(event["data"] for event in deltas) == last["data"]


async def test_parts_are_a_question_too():
    events = Events()
    payload = {"parts": [{"kind": "text", "text": "Wh"}, {"kind": "text", "text": "y?"}]}
    await WorkerExecutor(CONFIG).execute(RequestContext(payload), events)
    assert events[-1]["data"] == MockLLM().text("Wh\ny?")


@pytest.mark.parametrize("text", ["status", " Status\n"])
async def test_the_command_status_costs_no_model_call(text):
    class Untouchable(QAWorkerBase):
        async def answer(self, question: str) -> str:
            raise AssertionError("asked")

        async def stream_answer(self, question: str) -> AsyncGenerator[str, None]:
            raise AssertionError("asked")
            yield ""

    executor = WorkerExecutor(worker=Untouchable(CONFIG))
    assert await execute(executor, text, kind="command") == [{"type": MESSAGE, "data": "ready"}]


async def test_status_says_who_answers():
    events = await execute(WorkerExecutor(CONFIG), "status", kind="command", streaming=True)
    assert events == [{"type": MESSAGE, "data": "ready, LLM: mock (core.type; answers are made up)"}]


@pytest.mark.parametrize(
    ("text", "kind"), [("status", None), ("status", "question"), ("dispatch", "command"), ("What is a status?", None)]
)
async def test_every_other_text_is_a_question(text, kind):
    assert (await execute(WorkerExecutor(CONFIG), text, kind=kind))[-1]["data"] == MockLLM().text(text)


@pytest.mark.parametrize(
    ("worker", "streamed", "whole"),
    [
        (AnswersOnly, ["only q"], "only q"),
        (StreamsOnly, ["piece ", "q", "piece q"], "piece q"),
        (AnswersAfterAll, ["last q"], "last q"),
        (StreamsAfterAll, ["q", "q"], "only q"),
    ],
)
async def test_the_most_derived_word_counts(worker, streamed, whole):
    executor = WorkerExecutor(worker=worker(CONFIG))
    assert [event["data"] for event in await execute(executor, "q", streaming=True)] == streamed
    assert [event["data"] for event in await execute(executor, "q")] == [whole]


@pytest.mark.parametrize("answer", ["", " \n", None])
@pytest.mark.parametrize("streaming", [True, False])
async def test_an_empty_answer_is_a_failure_whoever_gave_it(answer, streaming):
    class Silent(QAWorkerBase):
        async def answer(self, question: str) -> str:
            return answer

    with pytest.raises(BadResponseError, match="empty"):
        await execute(WorkerExecutor(worker=Silent(CONFIG)), streaming=streaming)


async def test_close_closes_the_worker():
    closed = []

    class Closing(QAWorkerBase):
        async def close(self) -> None:
            closed.append(self)

    executor = WorkerExecutor(worker=Closing(CONFIG))
    await executor.close()
    assert closed == [executor.worker]


async def test_a_cancelled_stream_is_closed_while_its_reader_is_busy():
    ended = asyncio.Event()

    class Endless(QAWorkerBase):
        async def stream_answer(self, question: str) -> AsyncGenerator[str, None]:
            try:
                while True:
                    yield "more"
            finally:
                ended.set()

    class Stuck(Events):
        async def enqueue_event(self, event: Any) -> None:
            await asyncio.Event().wait()

    context = RequestContext({"text": "?"}, streaming=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await WorkerExecutor(worker=Endless(CONFIG)).execute(context, Stuck())
    assert ended.is_set()


# --- behind a real backend ---


@pytest.fixture
async def backend():
    backend = InprocCommBackend()
    yield backend
    await backend.close()


async def host(backend: InprocCommBackend, executor: WorkerExecutor) -> None:
    handle = await backend.spawn_local_agent("Worker-1", "", 0, executor)
    await backend.register_endpoint("Worker-1", handle.base_url)


async def test_over_a_backend_the_figures_come_back(backend):
    await host(backend, WorkerExecutor(SLOW))
    reply = await backend.send("Coordinator-1", "Worker-1", {"text": "Why?", "metadata": {"question_id": "q-1"}})
    assert reply["text"] == MockLLM().text("Why?")
    metadata = reply["metadata"]
    assert 19 <= metadata["llm_ms"] < 1000
    assert 5 <= metadata["ttft_ms"] < metadata["llm_ms"]
    assert (metadata["model"], metadata["mock"]) == ("mock", True)
    assert "usage" not in metadata


async def test_over_a_backend_the_deltas_come_early(backend):
    await host(backend, WorkerExecutor(SLOW))
    events = [event async for event in backend.stream("Coordinator-1", "Worker-1", {"text": "Why?"})]
    assert [event["type"] for event in events] == [DELTA] * (len(events) - 1) + [MESSAGE]
    assert len(events) > 3
    assert events[-1]["metadata"]["mock"] is True


async def test_over_a_backend_a_failure_keeps_its_class(backend):
    class Limited(QAWorkerBase):
        async def answer(self, question: str) -> str:
            raise RateLimitedError("slow down", retry_after_s=2.5)

    await host(backend, WorkerExecutor(worker=Limited(CONFIG)))
    with pytest.raises(RateLimitedError, match="slow down") as caught:
        await backend.send("Coordinator-1", "Worker-1", {"text": "?"})
    assert caught.value.retry_after_s == 2.5
