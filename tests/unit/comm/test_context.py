from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from streaming_queue.comm.context import (
    HEADER_BY_KEY,
    CallContext,
    RequestContext,
    annotate,
    annotating,
    calling,
    current_call,
)
from streaming_queue.errors import AgentFailedError, BadResponseError, ConfigError, ConnectError

FULL = CallContext(
    run_id="run",
    question_id="q 1",
    attempt=2,
    deadline=None,
    idempotency_key="run/q 1/abc",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    hops=3,
    kind="command",
)


def test_what_is_set_comes_back():
    assert CallContext.from_metadata(FULL.to_metadata()) == FULL
    assert CallContext().to_metadata() == {}
    assert CallContext.from_metadata({}) == CallContext()


def test_a_deadline_travels_as_the_milliseconds_that_remain():
    metadata = CallContext(deadline=time.monotonic() + 5).to_metadata()
    assert 4900 < metadata["deadline_ms"] <= 5000
    deadline = CallContext.from_metadata(metadata).deadline
    assert deadline is not None
    assert deadline - time.monotonic() == pytest.approx(5, abs=0.1)
    assert CallContext(deadline=time.monotonic() - 5).to_metadata()["deadline_ms"] == 0


@pytest.mark.parametrize(
    "metadata",
    [
        {"attempt": "two"},
        {"attempt": -1},
        {"attempt": True},
        {"attempt": "9" * 30},
        {"attempt": "٣"},
        {"hops": 1.5},
        {"deadline_ms": None},
        {"run_id": 5},
        {"idempotency_key": ["k"]},
        {"kind": "order"},
        {"traceparent": {}},
    ],
)
def test_a_field_of_a_wrong_type_is_left_out(metadata: dict[str, Any]):
    assert CallContext.from_metadata(metadata) == CallContext()


def test_numbers_may_come_as_header_text():
    assert CallContext.from_metadata({"attempt": "2", "hops": "1"}) == CallContext(attempt=2, hops=1)


def test_every_field_has_a_header():
    deadline = CallContext(deadline=time.monotonic() + 1).to_metadata()
    assert set(HEADER_BY_KEY) == {*FULL.to_metadata(), *deadline}
    assert all(header == header.lower() for header in HEADER_BY_KEY.values())


async def test_the_current_call_is_the_tasks_own():
    assert current_call() is None
    with calling(FULL):
        assert current_call() is FULL
        assert await asyncio.create_task(_seen()) is FULL
        with calling(CallContext(run_id="inner")):
            assert current_call() == CallContext(run_id="inner")
        assert current_call() is FULL
    assert current_call() is None


async def _seen() -> CallContext | None:
    return current_call()


def test_annotations_are_collected_inside_a_host_and_nowhere_else():
    annotate(lost=True)
    collected: dict[str, Any] = {}
    with annotating(collected):
        annotate(llm_ms=1.5, model="a")
        annotate(model="b")
    annotate(late=True)
    assert collected == {"llm_ms": 1.5, "model": "b"}


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"text": "a"}, "a"),
        ({"parts": [{"kind": "text", "text": "a"}, {"kind": "file"}, {"text": "b"}]}, "a\nb"),
        ({"text": "a", "parts": [{"text": "b"}]}, "a"),
        ({}, ""),
    ],
)
def test_the_users_input(payload: dict[str, Any], text: str):
    assert RequestContext(payload).get_user_input() == text


def test_a_request_knows_its_call():
    context = RequestContext({"text": "a", "metadata": {"attempt": 2, "mine": 1}}, agent_id="w", principal="p")
    assert context.metadata == {"attempt": 2, "mine": 1}
    assert context.call_context.attempt == 2
    assert context.deadline is None
    assert (context.agent_id, context.principal, context.streaming) == ("w", "p", False)


async def test_a_neighbour_is_called_one_hop_further():
    async def call(agent_id: str, payload: Any) -> Any:
        call_context = current_call()
        assert call_context is not None
        return {"raw": None, "text": f"{agent_id} {payload['text']} {call_context.hops}"}

    context = RequestContext({"text": "a", "metadata": {"hops": 1}}, call=call)
    assert (await context.call("n", {"text": "b"}))["text"] == "n b 2"


async def test_a_host_outside_of_a_network_has_no_neighbours():
    with pytest.raises(ConfigError, match="'w' is hosted outside of a network"):
        await RequestContext({"text": "a"}, agent_id="w").call("n", {"text": "b"})


def test_a_context_is_passed_on_one_hop_further_with_a_key_that_is_the_same_each_time():
    first = CallContext(question_id="q", attempt=2, idempotency_key="run/q", kind="question")
    second = first.passed_on()
    assert second == CallContext(question_id="q", attempt=2, idempotency_key="run/q/1", kind="question", hops=1)
    assert second.passed_on().idempotency_key == "run/q/1/2"
    assert first.passed_on(".a") == first.passed_on(".a") != first.passed_on(".b")
    assert CallContext().passed_on() == CallContext(hops=1)


async def test_what_is_asked_again_on_one_attempt_has_the_same_key_and_on_the_next_attempt_another():
    async def keys(attempt: int) -> list[Any]:
        seen = []

        async def call(agent_id: str, payload: Any) -> Any:
            seen.append(current_call().idempotency_key)
            return {"raw": None, "text": "a"}

        metadata = {"idempotency_key": "run/q", "attempt": attempt}
        context = RequestContext({"text": "a", "metadata": metadata}, call=call)
        for text in ("b", "b", "c"):
            await context.call("n", {"text": text})
        return seen

    assert await keys(1) == await keys(1)
    assert len({*await keys(1), *await keys(2)}) == 6


@pytest.mark.parametrize(
    ("error", "raised"), [(ConnectError("refused"), AgentFailedError), (BadResponseError("empty"), BadResponseError)]
)
async def test_a_neighbours_failure_is_raised_and_never_an_answer(error: Exception, raised: type[Exception]):
    async def call(agent_id: str, payload: Any) -> Any:
        return {"raw": None, "text": "", "error": error}

    with pytest.raises(raised, match=str(error)) as caught:
        await RequestContext({"text": "a"}, call=call).call("n", {"text": "b"})
    assert type(caught.value) is raised
