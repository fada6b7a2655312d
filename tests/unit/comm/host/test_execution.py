from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import suppress
from typing import Any

import pytest
from unit.comm.agents import Agent, Echo, Gate, Stubborn, message, request, soon
from unit.core.virtual_loop import virtually

from streaming_queue.comm import answer_limit
from streaming_queue.comm.context import annotate, current_call
from streaming_queue.comm.host.execution import CANCEL_BOUND_S, Execution, Executions
from streaming_queue.errors import ConnectError, ProtocolError, RateLimitedError, RemoteError, error_event
from streaming_queue.messages import DELTA, ERROR, STATUS

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


async def outcome(behave: Any, **metadata: Any) -> dict[str, Any]:
    return await Execution(Agent(behave), request(**metadata)).result()


# --- the end ---


async def test_the_last_message_is_the_answer():
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message("first"))
        await queue.enqueue_event({"type": DELTA, "data": "x"})
        await queue.enqueue_event(message("last"))

    assert await outcome(behave) == message("last")


async def test_without_a_message_the_deltas_together_are_the_answer():
    async def behave(context: Any, queue: Any) -> None:
        for piece in ("a", "", "b"):
            await queue.enqueue_event({"type": DELTA, "data": piece})

    assert await outcome(behave) == message("ab")


async def test_annotations_become_metadata_and_an_events_own_metadata_wins():
    async def behave(context: Any, queue: Any) -> None:
        annotate(llm_ms=3.0, model="a")
        await queue.enqueue_event(message("x", metadata={"model": "b"}))

    assert await outcome(behave) == message("x", metadata={"llm_ms": 3.0, "model": "b"})


@virtually
async def test_annotations_of_executions_side_by_side_do_not_mix():
    async def behave(context: Any, queue: Any) -> None:
        annotate(who=context.get_user_input())
        await asyncio.sleep(0.01)
        await queue.enqueue_event(message("x"))

    executions = [Execution(Agent(behave), request(str(number))) for number in range(20)]
    ends = await asyncio.gather(*(execution.result() for execution in executions))
    assert [end["metadata"] for end in ends] == [{"who": str(number)} for number in range(20)]


async def test_the_call_is_current_inside():
    async def behave(context: Any, queue: Any) -> None:
        call = current_call()
        await queue.enqueue_event(message(f"{call.attempt if call else None}"))

    assert await outcome(behave, attempt=7) == message("7")
    assert current_call() is None


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("text", "str None"),
        ({"type": "agent_song", "data": "x"}, "agent_song"),
        ({"data": "x"}, "dict None"),
        ({"type": DELTA, "data": 5}, "must be text, not int"),
        ({"type": "agent_text_message"}, "must be text, not NoneType"),
    ],
)
async def test_what_is_no_event_fails_the_agent(event: Any, words: str):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(event)

    end = await outcome(behave)
    assert end["code"] == "agent_failed"
    assert words in end["message"]


async def test_no_answer_is_a_failure():
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": STATUS, "data": "thinking"})

    end = await outcome(behave)
    assert (end["type"], end["code"]) == (ERROR, "agent_failed")
    assert "without an answer" in end["message"]


async def test_a_typed_error_keeps_its_class_and_wishes():
    async def behave(context: Any, queue: Any) -> None:
        raise RateLimitedError("slow down", retry_after_s=2.5)

    end = await outcome(behave)
    assert (end["code"], end["retryable"], end["retry_after_s"]) == ("rate_limited", True, 2.5)


async def test_a_strangers_exception_keeps_its_text_to_the_log(caplog: pytest.LogCaptureFixture):
    async def behave(context: Any, queue: Any) -> None:
        raise ValueError("key sk-123 is bad")

    end = await outcome(behave)
    assert end["code"] == "agent_failed"
    assert "sk-123" not in end["message"]
    assert "sk-123" in caplog.text


async def test_an_error_event_is_a_failure_too():
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": ERROR, "code": "quota", "message": "empty"})

    assert (await outcome(behave))["code"] == "quota"


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"code": 7, "message": {"a": [1]}, "retryable": "no", "retry_after_s": "soon"},
        {"code": ["quota"], "retry_after_s": math.nan},
        {"retry_after_s": math.inf},
        {"retry_after_s": -1},
        {"retry_after_s": 10**400},
        {"retry_after_s": True, "more": object()},
    ],
)
async def test_an_error_event_is_made_whole(odd: dict[str, Any]):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": ERROR, **odd})

    end = await outcome(behave)
    assert end.keys() == error_event(RemoteError()).keys()
    assert (end["type"], end["code"], end["retryable"], end["retry_after_s"]) == (ERROR, "remote", True, None)
    assert end["message"]


@pytest.mark.parametrize("whole", [False, True])
async def test_an_answer_over_the_limit_ends_the_execution(monkeypatch: pytest.MonkeyPatch, whole: bool):
    monkeypatch.setattr(answer_limit, "MAX_ANSWER_BYTES", 100)
    enqueued = 0

    async def behave(context: Any, queue: Any) -> None:
        nonlocal enqueued
        while True:  # whatever it is told
            with suppress(ProtocolError):
                await queue.enqueue_event(message("字" * 34) if whole else {"type": DELTA, "data": "字" * 10})
                enqueued += 1
            await asyncio.sleep(0)

    execution = Execution(Agent(behave), request())
    end = await execution.result()
    assert (end["type"], end["code"], end["retryable"]) == (ERROR, "protocol", True)
    await asyncio.wait({execution.task}, timeout=5)
    assert execution.task.cancelled()
    assert enqueued == (0 if whole else 3)


async def test_an_answer_is_measured_by_its_text_and_not_by_what_goes_with_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answer_limit, "MAX_ANSWER_BYTES", 100)

    async def behave(context: Any, queue: Any) -> None:
        for piece in ("x" * 50, "字" * 16 + "xx"):
            await queue.enqueue_event({"type": STATUS, "data": "s" * 60})
            await queue.enqueue_event({"type": DELTA, "data": piece})
        await queue.enqueue_event(message("x" * 50 + "字" * 16 + "xx"))

    assert (await outcome(behave))["data"] == "x" * 50 + "字" * 16 + "xx"


@virtually
async def test_the_deadline_ends_a_question():
    started = time.monotonic()
    end = await outcome(lambda context, queue: asyncio.sleep(10), deadline_ms=50)
    assert end["code"] == "timeout"
    assert time.monotonic() - started < 1


@virtually
async def test_the_deadline_does_not_end_a_command():
    async def behave(context: Any, queue: Any) -> None:
        await asyncio.sleep(0.05)
        await queue.enqueue_event(message("done"))

    assert await outcome(behave, deadline_ms=1, kind="command") == message("done")


async def test_a_timeout_of_the_agents_own_is_its_failure_not_the_deadline():
    async def behave(context: Any, queue: Any) -> None:
        raise TimeoutError

    assert (await outcome(behave, deadline_ms=5000))["code"] == "agent_failed"
    assert (await outcome(behave))["code"] == "agent_failed"


async def test_a_cancellation_from_within_is_a_failure_that_readers_see():
    async def behave(context: Any, queue: Any) -> None:
        raise asyncio.CancelledError

    assert (await outcome(behave))["code"] == "agent_failed"


# --- readers ---


@virtually
async def test_each_reader_sees_every_event_in_order():
    gate = asyncio.Event()

    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": STATUS, "data": "s"})
        await queue.enqueue_event({"type": DELTA, "data": "a"})
        await gate.wait()
        await queue.enqueue_event({"type": DELTA, "data": "b"})
        await queue.enqueue_event(message("ab"))

    execution = Execution(Agent(behave), request())
    early = asyncio.create_task(_all(execution))
    await asyncio.sleep(0.01)
    late = asyncio.create_task(_all(execution))
    await asyncio.sleep(0.01)
    gate.set()
    expected = ["s", "a", "b", "ab"]
    assert [await early, await late, await _all(execution)] == [expected] * 3


async def _all(execution: Execution) -> list[str]:
    return [event["data"] async for event in execution.events()]


async def test_what_is_there_comes_in_one_batch():
    async def behave(context: Any, queue: Any) -> None:
        for piece in "abc":
            await queue.enqueue_event({"type": DELTA, "data": piece})

    execution = Execution(Agent(behave), request())
    await execution.result()
    assert [[event["data"] for event in batch] async for batch in execution.batches()] == [["a", "b", "c", "abc"]]


async def test_silence_is_broken_by_empty_batches():
    gate = Gate()
    execution = Execution(gate, request())
    batches = execution.batches(heartbeat_s=0.01)
    assert [await anext(batches) for _ in range(3)] == [[], [], []]
    gate.open.set()
    assert [batch async for batch in batches if batch] == [[message("answer 1")]]


async def test_a_reader_that_gives_up_does_not_end_the_execution():
    gate = Gate()
    execution = Execution(gate, request())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(execution.result(), 0.01)
    gate.open.set()
    assert await execution.result() == message("answer 1")


# --- cancelling ---


async def test_cancel_ends_executor_and_readers():
    gate = Gate()
    execution = Execution(gate, request())
    reader = asyncio.create_task(execution.result())
    await gate.started.wait()
    await execution.cancel()
    assert gate.cancelled == 1
    assert (await reader)["code"] == "agent_failed"


async def test_cancel_before_the_first_step_still_has_an_end():
    gate = Gate()
    execution = Execution(gate, request())
    await execution.cancel()
    assert (await execution.result())["code"] == "agent_failed"
    assert gate.runs == 0


async def test_cancelling_a_hung_executor_is_bounded_and_frees_its_readers():
    stubborn = Stubborn()
    execution = Execution(stubborn, request())
    await stubborn.started.wait()
    reader = asyncio.create_task(execution.result())
    started = time.monotonic()
    cancelling = asyncio.create_task(execution.cancel())
    assert (await reader)["code"] == "agent_failed"
    assert time.monotonic() - started < 0.5
    await cancelling
    assert CANCEL_BOUND_S - 0.05 < time.monotonic() - started < CANCEL_BOUND_S + 0.5
    stubborn.release.set()
    await asyncio.wait({execution.task})


# --- coming and going ---


async def test_an_answer_that_was_read_is_forgotten():
    executions = Executions(Echo())
    with executions.attach(request("a", idempotency_key="k")) as execution:
        assert len(executions) == 1
        assert await execution.result() == message("a")
    await asyncio.sleep(0)
    assert len(executions) == 0


async def test_the_same_key_within_the_grace_comes_back_to_the_same_work():
    gate = Gate()
    executions = Executions(gate, grace_s=0.5)
    await _leave(executions, request(idempotency_key="k"))
    gate.open.set()
    with executions.attach(request(idempotency_key="k")) as execution:
        assert await execution.result() == message("answer 1")
    assert gate.runs == 1
    assert gate.cancelled == 0


async def test_an_answer_that_came_meanwhile_is_kept():
    gate = Gate()
    executions = Executions(gate, grace_s=0.2)
    await _leave(executions, request(idempotency_key="k"))
    gate.open.set()
    await gate.ended.wait()
    await soon(lambda: len(executions) == 0)
    for _ in range(2):
        with executions.attach(request(idempotency_key="k")) as execution:
            assert await execution.result() == message("answer 1")
    with executions.attach(request(idempotency_key="other")) as execution:
        assert await execution.result() == message("answer 2")
    with executions.attach(request(idempotency_key="k", principal="somebody else")) as execution:
        assert await execution.result() == message("answer 3")
    assert gate.runs == 3


async def test_a_kept_answer_belongs_to_its_question():
    executions = Executions(Echo())
    with executions.attach(request("one", idempotency_key="k")) as execution:
        assert await execution.result() == message("one")
    with pytest.raises(ProtocolError, match="another text"), executions.attach(request("two", idempotency_key="k")):
        pass


async def test_an_agent_is_as_ready_as_its_executor_says():
    class Moody(Echo):
        ready = False

    executor = Moody()
    executions = Executions(executor)
    assert not executions.ready
    with executions.attach(request("q")) as execution:
        assert await execution.result() == message("q")
    executor.ready = True
    assert executions.ready
    await executions.aclose()
    assert not executions.ready


async def test_draining_finishes_what_is_under_way_and_refuses_what_is_new():
    gate = Gate()
    executions = Executions(gate)
    with executions.attach(request(idempotency_key="k")) as execution:
        assert executions.ready
        draining = asyncio.create_task(executions.drain(5))
        await soon(lambda: not executions.ready)
        with pytest.raises(ConnectError, match="drains"), executions.attach(request("new")):
            pass
        with executions.attach(request(idempotency_key="k")) as again:
            assert again is execution
        gate.open.set()
        await draining
        assert await execution.result() == message("answer 1")


async def test_a_command_is_obeyed_while_draining():
    executions = Executions(Echo())
    await executions.drain(0)
    with executions.attach(request("status", kind="command")) as execution:
        assert await execution.result() == message("status")


async def test_a_drain_is_bounded():
    executions = Executions(Gate())
    with executions.attach(request()):
        started = time.monotonic()
        await executions.drain(0.1)
        assert 0.1 <= time.monotonic() - started < 1


async def test_a_failure_that_was_read_is_not_kept_for_the_next_attempt():
    outcomes = iter([RateLimitedError("slow"), None])

    async def behave(context: Any, queue: Any) -> None:
        if error := next(outcomes):
            raise error
        await queue.enqueue_event(message("fine"))

    executions = Executions(Agent(behave))
    with pytest.raises(LookupError), executions.attach(request(idempotency_key="k")) as execution:
        assert (await execution.result())["code"] == "rate_limited"
        raise LookupError
    with executions.attach(request(idempotency_key="k", attempt=2)) as execution:
        assert await execution.result() == message("fine")


@virtually
async def test_after_the_grace_a_question_is_cancelled_and_its_key_is_free():
    gate = Gate()
    executions = Executions(gate, grace_s=0.05)
    await _leave(executions, request(idempotency_key="k"))
    await asyncio.sleep(0.02)
    assert gate.cancelled == 0
    await soon(lambda: gate.cancelled == 1)
    gate.open.set()
    with executions.attach(request(idempotency_key="k")) as execution:
        assert await execution.result() == message("answer 2")
    await asyncio.sleep(0)
    assert len(executions) == 0


@virtually
async def test_every_return_starts_the_grace_anew():
    gate = Gate()
    executions = Executions(gate, grace_s=0.1)
    for _ in range(4):
        await _leave(executions, request(idempotency_key="k"))
        await asyncio.sleep(0.06)
    assert (gate.runs, gate.cancelled) == (1, 0)
    await executions.aclose()


@virtually
async def test_one_of_two_readers_may_leave():
    gate = Gate()
    executions = Executions(gate, grace_s=0.02)
    with executions.attach(request(idempotency_key="k")) as execution:
        await _leave(executions, request(idempotency_key="k"))
        await asyncio.sleep(0.05)
        gate.open.set()
        assert await execution.result() == message("answer 1")
    assert gate.cancelled == 0


async def test_without_a_key_leaving_is_the_cancel():
    gate = Gate()
    executions = Executions(gate, grace_s=10)
    await _leave(executions, request())
    await soon(lambda: gate.cancelled == 1)
    await asyncio.sleep(0)
    assert len(executions) == 0


@pytest.mark.parametrize("metadata", [{}, {"idempotency_key": "k"}])
@virtually
async def test_a_command_goes_on_when_everybody_left(metadata: dict[str, str]):
    gate = Gate()
    executions = Executions(gate, grace_s=0.02)
    await _leave(executions, request(kind="command", **metadata))
    await asyncio.sleep(0.06)
    assert not gate.ended.is_set()
    gate.open.set()
    await gate.ended.wait()
    assert gate.cancelled == 0
    await soon(lambda: len(executions) == 0)


@virtually
async def test_a_commands_answer_is_kept_for_the_grace_after_its_end():
    gate = Gate()
    executions = Executions(gate, grace_s=0.2)
    await _leave(executions, request(kind="command", idempotency_key="k"))
    await asyncio.sleep(0.3)
    gate.open.set()
    await gate.ended.wait()
    await asyncio.sleep(0.05)
    with executions.attach(request(kind="command", idempotency_key="k")) as execution:
        assert await execution.result() == message("answer 1")
    assert gate.runs == 1


async def test_the_same_key_of_another_principal_is_another_question():
    gate = Gate()
    executions = Executions(gate)
    with (
        executions.attach(request(principal="a", idempotency_key="k")) as first,
        executions.attach(request(principal="b", idempotency_key="k")) as second,
    ):
        assert first is not second
        assert not await executions.cancel("k")
        assert not await executions.cancel("k", principal="c")
        await gate.started.wait()
        assert await executions.cancel("k", principal="a")
        assert (first.done, second.done) == (True, False)
    await executions.aclose()


async def test_the_same_key_with_another_text_is_refused():
    executions = Executions(Gate())
    with executions.attach(request("a", idempotency_key="k")):
        with (
            pytest.raises(ProtocolError, match="'k' is in use for another text") as caught,
            executions.attach(request("b", idempotency_key="k")),
        ):
            pass
        assert caught.value.retryable is False
    await executions.aclose()


# --- cancel by key, close ---


async def test_cancel_by_key():
    gate = Gate()
    executions = Executions(gate)
    with executions.attach(request(idempotency_key="k")) as execution:
        await gate.started.wait()
        assert await executions.cancel("k") is True
        assert gate.cancelled == 1
        assert (await execution.result())["code"] == "agent_failed"
        assert await executions.cancel("k") is False
    assert await executions.cancel("unknown") is False
    assert len(executions) == 0


async def test_after_a_cancel_the_key_starts_anew_even_if_the_executor_hangs():
    stubborn = Stubborn()
    executions = Executions(stubborn)
    await _leave(executions, request(idempotency_key="k"))
    await stubborn.started.wait()
    cancelling = asyncio.create_task(executions.cancel("k"))
    await asyncio.sleep(0)
    with executions.attach(request(idempotency_key="k")) as execution:
        assert not execution.done
        stubborn.release.set()
        assert (await execution.result())["message"].startswith("the agent finished without")
    assert await cancelling is True


async def test_a_command_is_never_cancelled_by_key():
    gate = Gate()
    executions = Executions(gate)
    with executions.attach(request(idempotency_key="k", kind="command")) as execution:
        await gate.started.wait()
        assert await executions.cancel("k") is False
        gate.open.set()
        assert await execution.result() == message("answer 1")


async def test_closing_fails_what_is_under_way_as_lost_and_refuses_what_comes():
    gate = Gate()
    executions = Executions(gate)
    with executions.attach(request(kind="command")) as execution:
        await gate.started.wait()
        await executions.aclose()
        assert (await execution.result())["code"] == "connect"
    assert gate.cancelled == 1
    with pytest.raises(ConnectError, match="'w' was stopped"), executions.attach(request()):
        pass
    await executions.aclose()


async def test_closing_is_bounded_and_names_what_hangs(caplog: pytest.LogCaptureFixture):
    stubborn = Stubborn()
    executions = Executions(stubborn)
    with executions.attach(request()) as execution:
        await stubborn.started.wait()
        started = time.monotonic()
        with caplog.at_level(logging.WARNING):
            await executions.aclose(0.05)
        assert time.monotonic() - started < 0.5
        assert "execute:w does not end" in caplog.text
        assert execution.done
    stubborn.release.set()
    await asyncio.wait({execution.task})


async def _leave(executions: Executions, context: Any) -> None:
    """Ask and go away before the answer."""
    with pytest.raises(TimeoutError), executions.attach(context) as execution:
        await asyncio.wait_for(execution.result(), 0.01)
