"""Checks of repeated questions."""

from __future__ import annotations

import asyncio

from streaming_queue.errors import ConnectError, ProtocolError
from streaming_queue.testing.checks.steps import answers_again, begun
from streaming_queue.testing.executors import Gate
from streaming_queue.testing.expect import SLACK_S, expect, expect_equal, expect_error, within
from streaming_queue.testing.lab import Lab
from streaming_queue.testing.verdict import holds


class Repeating:
    """Checks of repeated questions."""

    @holds("repeat-1")
    async def test_a_question_asked_twice_at_once_runs_once(self, lab: Lab) -> None:
        gate = Gate()
        await lab.host(gate)
        asking = [asyncio.create_task(lab.ask(way, idempotency_key="k")) for way in ("send", "send", "stream")]
        await within(5, gate.started.wait(), "the question at the agent")
        await asyncio.sleep(0.2)
        gate.open.set()
        answers = await within(5, asyncio.gather(*asking), "three answers")
        expect_equal(gate.runs, 1, "runs of the agent:")
        expect_equal(answers, ["answer 1"] * 3, "the answers")

    @holds("repeat-2")
    async def test_a_question_asked_again_gets_the_same_answer(self, lab: Lab) -> None:
        gate = Gate()
        gate.open.set()
        await lab.host(gate)
        answers = [await lab.ask(way, idempotency_key="k") for way in ("send", "send", "stream")]
        expect_equal(gate.runs, 1, "runs of the agent:")
        expect_equal(answers, ["answer 1"] * 3, "the answers")

    @holds("repeat-3")
    async def test_a_key_belongs_to_one_question(self, lab: Lab) -> None:
        gate = Gate()
        gate.open.set()
        await lab.host(gate)
        await lab.send("one", idempotency_key="k")
        error = await expect_error(lab.send("another", idempotency_key="k"), ProtocolError, within_s=SLACK_S)
        expect(not error.retryable, "an error that is not retryable", error)
        expect_equal(gate.runs, 1, "runs of the agent:")

    @holds("repeat-4")
    async def test_a_question_whose_connection_broke_runs_once(self, lab: Lab) -> None:
        gate = Gate()
        wire = (await lab.host(gate)).wire
        sending = await begun(lab, gate, idempotency_key="k")
        wire.reset()
        await wire.restore()
        again = asyncio.create_task(answers_again(lab, idempotency_key="k"), name="send again")
        await asyncio.sleep(0.3)
        gate.open.set()
        expect_equal(await within(10, again, "an answer"), "answer 1", "the answer to the second caller")
        try:
            first = (await within(5, sending, "an end"))["text"]
        except ConnectError:
            first = "answer 1"
        expect_equal(first, "answer 1", "the answer to the first")
        expect_equal(gate.runs, 1, "runs of the agent:")
