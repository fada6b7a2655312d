"""Checks of metadata."""

from __future__ import annotations

import time
from typing import Any

from streaming_queue.comm.context import annotate
from streaming_queue.messages import STATUS
from streaming_queue.testing.executors import Agent, Echo, Recorder, message
from streaming_queue.testing.expect import expect, expect_equal, shown
from streaming_queue.testing.lab import WAYS, Lab
from streaming_queue.testing.verdict import holds

SENT: dict[str, Any] = {
    "run_id": "run 1",
    "question_id": "\u95ee\u9898 %41/\r\n",
    "attempt": 2,
    "idempotency_key": "run 1/\u95ee\u9898/0f",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "hops": 0,
    "kind": "question",
    "mine": {"nested": [1, None, "\u4e8c"]},
}
SAID: dict[str, Any] = {"llm_ms": 1.5, "ttft_ms": 0.5, "mock": True, "model": "m-1", "usage": {"total_tokens": 3}}
DEADLINE_S = 30.0


async def _end(lab: Lab, way: str) -> Any:
    """The reply, or the last event of a stream."""
    return await lab.send() if way == "send" else (await lab.events())[-1]


class Metadata:
    """Checks of metadata."""

    @holds("metadata-1")
    async def test_the_context_reaches_the_agent(self, lab: Lab) -> None:
        recorder = Recorder(lambda context: (dict(context.metadata), context.call_context))
        await lab.host(recorder)
        for number, way in enumerate(WAYS):
            sent = SENT | {"idempotency_key": f"{SENT['idempotency_key']}/{number}"}
            await lab.ask(way, **sent)
            metadata, call = recorder.seen[-1]
            expect_equal(metadata, sent, f"by `{way}`, the metadata at the agent")
            keys = ("run_id", "question_id", "attempt", "idempotency_key", "traceparent", "kind")
            known = {key: getattr(call, key) for key in keys}
            expect_equal(known, {key: sent[key] for key in keys}, f"by `{way}`, the call's context at the agent")

    @holds("metadata-2")
    async def test_the_deadline_reaches_the_agent(self, lab: Lab) -> None:
        recorder = Recorder(lambda context: None if context.deadline is None else context.deadline - time.monotonic())
        await lab.host(recorder)
        for way in WAYS:
            await lab.ask(way, deadline_ms=int(DEADLINE_S * 1000))
            came = recorder.seen[-1]
            in_time = came is not None and DEADLINE_S - 10 < came <= DEADLINE_S
            expect(in_time, f"by `{way}`, a little less than {DEADLINE_S:g} s left at the agent", shown(came))

    @holds("metadata-3")
    async def test_annotations_come_back(self, lab: Lab) -> None:
        async def behave(context: Any, queue: Any) -> None:
            annotate(**SAID)
            await queue.enqueue_event(message("x", metadata={"mine": [1, {"nested": None}]}))

        await lab.host(Agent(behave))
        for way in WAYS:
            came = (await _end(lab, way)).get("metadata")
            expect_equal(came, {**SAID, "mine": [1, {"nested": None}]}, f"by `{way}`, metadata")

    @holds("metadata-4")
    async def test_no_metadata_is_no_metadata(self, lab: Lab) -> None:
        await lab.host(Echo())
        for way in WAYS:
            came = await _end(lab, way)
            expect("metadata" not in came, f"by `{way}`, no metadata", came)

    @holds("metadata-5")
    async def test_the_metadata_of_a_status_comes_with_it(self, lab: Lab) -> None:
        status = {"type": STATUS, "data": "thinking", "metadata": {"done": 3, "of": [7, "\u4e03"]}}

        async def behave(context: Any, queue: Any) -> None:
            await queue.enqueue_event(status)
            await queue.enqueue_event(message("x"))

        await lab.host(Agent(behave))
        expect_equal((await lab.events())[0], status, "the first event:")
