"""What every backend that hosts, streams, cancels and carries metadata must do. A subclass gives `make`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from unit.comm.agents import Agent, Echo, Gate, Stubborn, message, soon

from streaming_queue.comm.base import HostLimits, HostOptions
from streaming_queue.comm.context import annotate
from streaming_queue.errors import (
    ERRORS_BY_CODE,
    AgentFailedError,
    BackendClosedError,
    ConnectError,
    RateLimitedError,
    StreamingQueueError,
    UnknownAgentError,
)
from streaming_queue.messages import DELTA, MESSAGE, STATUS

LIMITS = HostLimits(disconnect_grace_s=0.3, stop_s=1.0)

TEXTS = [
    "plain",
    "中文，日本語、한국어",  # noqa: RUF001
    "🦜👩‍👩‍👧‍👦 é é",
    '"quotes" \\back\\ \t\r\n / \x00 \x1b[31m \u2028 %41',
    "x" * 500_000,
    "字" * 170_000,
]


@pytest.mark.usefixtures("no_stray_tasks")
class BackendContract:
    backend_class: Any

    @pytest.fixture
    async def backend(self):
        backend = self.backend_class(host_options=HostOptions(limits=LIMITS))
        yield backend
        await backend.close()

    @pytest.fixture
    async def spawn(self, backend: Any):
        async def spawn(executor: Any, agent_id: str = "w") -> Any:
            handle = await backend.spawn_local_agent(agent_id, "127.0.0.1", 0, executor)
            await backend.register_endpoint(agent_id, handle.base_url)
            return handle

        return spawn

    # --- what arrives ---

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    async def test_text_arrives_as_it_left(self, backend: Any, spawn: Any, text: str):
        await spawn(Echo())
        assert (await backend.send("c", "w", {"text": text}))["text"] == text
        events = [event async for event in backend.stream("c", "w", {"text": text})]
        assert [event["data"] for event in events] == [text]

    async def test_parts_arrive(self, backend: Any, spawn: Any):
        await spawn(Echo())
        parts = [{"kind": "text", "text": "one"}, {"kind": "text", "text": "two"}]
        assert (await backend.send("c", "w", {"parts": parts}))["text"] == "one\ntwo"

    async def test_an_empty_answer_is_returned_as_it_is(self, backend: Any, spawn: Any):
        await spawn(Echo())
        assert (await backend.send("c", "w", {"text": ""}))["text"] == ""

    async def test_answers_are_never_swapped(self, backend: Any, spawn: Any):
        async def behave(context: Any, queue: Any) -> None:
            text = context.get_user_input()
            await asyncio.sleep((hash(text) % 10) / 1000)
            await queue.enqueue_event(message(f"{context.agent_id}:{text}"))

        for agent_id in ("a", "b"):
            await spawn(Agent(behave), agent_id)
        asked = [("ab"[number % 2], f"q{number}") for number in range(100)]
        replies = await asyncio.gather(*(backend.send("c", agent_id, {"text": text}) for agent_id, text in asked))
        assert [reply["text"] for reply in replies] == [f"{agent_id}:{text}" for agent_id, text in asked]

    async def test_metadata_goes_there_and_comes_back(self, backend: Any, spawn: Any):
        async def behave(context: Any, queue: Any) -> None:
            annotate(llm_ms=1.5, mock=True, usage={"total_tokens": 3})
            seen = {key: value for key, value in context.metadata.items() if key != "deadline_ms"}
            left_s = (context.deadline or 0) - time.monotonic()
            await queue.enqueue_event(message("x", metadata={"seen": seen, "in_time": 8 < left_s <= 10}))

        await spawn(Agent(behave))
        sent = {
            "run_id": "run 1",
            "question_id": "问题 %41/\r\n",
            "attempt": 2,
            "idempotency_key": "run 1/问题/0f",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "hops": 0,
            "kind": "question",
            "mine": {"nested": [1, None, "二"]},
        }
        payload = {"text": "q", "metadata": {**sent, "deadline_ms": 10_000}}
        expected = {"llm_ms": 1.5, "mock": True, "usage": {"total_tokens": 3}, "seen": sent, "in_time": True}
        assert (await backend.send("c", "w", payload))["metadata"] == expected
        assert [event["metadata"] async for event in backend.stream("c", "w", payload)] == [expected]

    async def test_no_metadata_is_no_metadata(self, backend: Any, spawn: Any):
        await spawn(Echo())
        assert "metadata" not in await backend.send("c", "w", {"text": "q"})

    async def test_a_description_is_given_without_asking_the_agent(self, backend: Any, spawn: Any):
        gate = Gate()
        await spawn(gate)
        facts = await backend.describe("w")
        assert not facts or "w" in facts.values()
        assert gate.runs == 0

    # --- failures ---

    @pytest.mark.parametrize("cls", ERRORS_BY_CODE.values(), ids=ERRORS_BY_CODE)
    async def test_every_error_comes_back_as_itself(self, backend: Any, spawn: Any, cls: type[StreamingQueueError]):
        async def behave(context: Any, queue: Any) -> None:
            await queue.enqueue_event({"type": STATUS, "data": "trying"})
            raise cls("too bad 坏", retryable=not cls.retryable, retry_after_s=2.25)

        await spawn(Agent(behave))
        for ask in (backend.send("c", "w", {"text": "q"}), _last(backend.stream("c", "w", {"text": "q"}))):
            with pytest.raises(cls, match="too bad 坏") as caught:
                await ask
            assert type(caught.value) is cls
            assert caught.value.retryable is not cls.retryable
            assert caught.value.retry_after_s == 2.25

    async def test_a_strangers_exception_is_an_agents_failure_without_its_text(self, backend: Any, spawn: Any):
        async def behave(context: Any, queue: Any) -> None:
            raise ValueError("key sk-123 is bad")

        await spawn(Agent(behave))
        with pytest.raises(AgentFailedError) as caught:
            await backend.send("c", "w", {"text": "q"})
        assert "sk-123" not in str(caught.value)

    async def test_a_failed_question_may_be_asked_again_under_its_key(self, backend: Any, spawn: Any):
        outcomes = iter([RateLimitedError("slow"), RateLimitedError("slow"), None])

        async def behave(context: Any, queue: Any) -> None:
            if error := next(outcomes):
                raise error
            await queue.enqueue_event(message("fine"))

        await spawn(Agent(behave))
        payload = {"text": "q", "metadata": {"idempotency_key": "k"}}
        with pytest.raises(RateLimitedError):
            await backend.send("c", "w", payload)
        with pytest.raises(RateLimitedError):
            await _last(backend.stream("c", "w", payload))
        assert (await backend.send("c", "w", payload))["text"] == "fine"

    async def test_an_agent_that_is_gone_is_a_connection_error_at_once(self, backend: Any, spawn: Any):
        handle = await spawn(Echo())
        await backend.send("c", "w", {"text": "q"})
        await handle.stop()
        started = time.monotonic()
        for ask in (backend.send("c", "w", {"text": "q"}), _last(backend.stream("c", "w", {"text": "q"}))):
            with pytest.raises(ConnectError, match=handle.base_url) as caught:
                await ask
            assert caught.value.retryable is True
        assert time.monotonic() - started < 0.5
        assert not await backend.health_check("w")

    async def test_nobody_is_registered_under_this_id(self, backend: Any):
        with pytest.raises(UnknownAgentError, match="'nobody'"):
            await backend.send("c", "nobody", {"text": "q"})
        assert not await backend.health_check("nobody")

    # --- streaming ---

    async def test_events_arrive_in_order_and_before_the_end(self, backend: Any, spawn: Any):
        go_on = asyncio.Event()

        async def behave(context: Any, queue: Any) -> None:
            assert context.streaming
            await queue.enqueue_event({"type": STATUS, "data": "thinking"})
            await queue.enqueue_event({"type": DELTA, "data": "0,"})
            await go_on.wait()
            for number in range(1, 200):
                await queue.enqueue_event({"type": DELTA, "data": f"{number},"})

        await spawn(Agent(behave))
        stream = backend.stream("c", "w", {"text": "q"})
        async with asyncio.timeout(5):
            assert await anext(stream) == {"type": STATUS, "data": "thinking"}
            assert await anext(stream) == {"type": DELTA, "data": "0,"}
            go_on.set()
            events = [event async for event in stream]
        whole = "".join(f"{number}," for number in range(200))
        assert [event["type"] for event in events] == [DELTA] * 199 + [MESSAGE]
        assert "0," + "".join(event["data"] for event in events[:-1]) == whole
        assert events[-1]["data"] == whole

    async def test_send_says_that_nobody_reads_deltas(self, backend: Any, spawn: Any):
        async def behave(context: Any, queue: Any) -> None:
            await queue.enqueue_event(message(str(context.streaming)))

        await spawn(Agent(behave))
        assert (await backend.send("c", "w", {"text": "q"}))["text"] == "False"

    # --- cancelling ---

    @pytest.mark.parametrize("metadata", [{"idempotency_key": "k"}, {}])
    async def test_cancelling_send_cancels_the_work(self, backend: Any, spawn: Any, metadata: dict[str, str]):
        gate = Gate()
        await spawn(gate)
        sending = asyncio.create_task(backend.send("c", "w", {"text": "q", "metadata": metadata}))
        await gate.started.wait()
        started = time.monotonic()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert time.monotonic() - started < 0.25
        await soon(lambda: gate.cancelled == 1)
        gate.open.set()
        assert (await backend.send("c", "w", {"text": "q", "metadata": metadata}))["text"] == "answer 2"

    async def test_closing_a_stream_cancels_the_work(self, backend: Any, spawn: Any):
        cancelled = asyncio.Event()

        async def behave(context: Any, queue: Any) -> None:
            await queue.enqueue_event({"type": DELTA, "data": "x"})
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        await spawn(Agent(behave))
        stream = backend.stream("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}})
        assert (await anext(stream))["data"] == "x"
        await stream.aclose()
        async with asyncio.timeout(0.25):
            await cancelled.wait()

    async def test_a_command_goes_on_when_its_sender_leaves(self, backend: Any, spawn: Any):
        gate = Gate()
        await spawn(gate)
        payload = {"text": "dispatch", "metadata": {"kind": "command", "idempotency_key": "k"}}
        sending = asyncio.create_task(backend.send("c", "w", payload))
        await gate.started.wait()
        sending.cancel()
        await asyncio.wait({sending})
        await asyncio.sleep(LIMITS.disconnect_grace_s + 0.1)
        assert not gate.ended.is_set()
        gate.open.set()
        await gate.ended.wait()
        assert gate.cancelled == 0

    async def test_cancelling_is_bounded_even_if_the_executor_hangs(self, backend: Any, spawn: Any):
        stubborn = Stubborn()
        await spawn(stubborn)
        sending = asyncio.create_task(backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}}))
        await stubborn.started.wait()
        started = time.monotonic()
        sending.cancel()
        await asyncio.wait({sending})
        assert time.monotonic() - started < 1.4
        stubborn.release.set()

    # --- the ends of things ---

    async def test_health(self, backend: Any, spawn: Any):
        await spawn(Echo())
        assert await backend.health_check("w")

    async def test_stopping_fails_what_is_under_way_as_lost(self, backend: Any, spawn: Any):
        gate = Gate()
        handle = await spawn(gate)
        sending = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
        await gate.started.wait()
        await asyncio.gather(handle.stop(), handle.stop())
        await handle.stop()
        with pytest.raises(ConnectError):
            await sending
        assert gate.cancelled == 1

    async def test_close_is_bounded_idempotent_and_final(self, backend: Any, spawn: Any):
        stubborn = Stubborn()
        await spawn(stubborn)
        sending = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
        await stubborn.started.wait()
        started = time.monotonic()
        await asyncio.gather(backend.close(), backend.close())
        assert time.monotonic() - started < LIMITS.stop_s + 0.3
        with pytest.raises((ConnectError, BackendClosedError)):
            await sending
        stubborn.release.set()
        for ask in (backend.send("c", "w", {"text": "q"}), _last(backend.stream("c", "w", {"text": "q"}))):
            with pytest.raises(BackendClosedError):
                await ask
        assert not await backend.health_check("w")
        await backend.close()

    async def test_200_requests_leave_nothing_behind(self, backend: Any, spawn: Any):
        await spawn(Echo())
        await backend.send("c", "w", {"text": "q"})
        before = asyncio.all_tasks()
        for batch in range(10):
            payloads = [{"text": "q", "metadata": {"idempotency_key": f"{batch}/{number}"}} for number in range(20)]
            await asyncio.gather(*(backend.send("c", "w", payload) for payload in payloads))
        await soon(lambda: len(asyncio.all_tasks() - before) == 0)


async def _last(stream: Any) -> Any:
    event = None
    async for event in stream:  # noqa: B007
        pass
    return event
