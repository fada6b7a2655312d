"""Checks of cancellation."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from streaming_queue.comm.host.execution import HEARTBEAT_S
from streaming_queue.messages import DELTA
from streaming_queue.testing import resource_count
from streaming_queue.testing.checks.steps import CANCEL_S, begun, leave
from streaming_queue.testing.executors import Agent, Gate, Stubborn
from streaming_queue.testing.expect import SLACK_S, eventually, expect, expect_equal, within
from streaming_queue.testing.lab import Lab
from streaming_queue.testing.verdict import holds

SHORT_GRACE_S = 0.3
KEYS = [{"idempotency_key": "k"}, {}]


class Endless:
    """Sends a delta, then works until it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Work."""
        del context
        await event_queue.enqueue_event({"type": DELTA, "data": "x"})
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


class Cancelling:
    """Checks of cancellation."""

    @pytest.mark.parametrize("metadata", KEYS, ids=["key", "no key"])
    @holds("cancel-1")
    async def test_cancelling_send_cancels_the_work(self, lab: Lab, metadata: dict[str, str]) -> None:
        gate = Gate()
        await lab.host(gate)
        await leave(await begun(lab, gate, **metadata))
        await eventually(
            lambda: gate.cancelled == 1, CANCEL_S + SLACK_S, "the agent's work is cancelled", lambda: "the work goes on"
        )
        gate.open.set()
        expect_equal((await lab.send(**metadata))["text"], "answer 2", "asked again, the agent runs again:")

    @pytest.mark.parametrize("metadata", KEYS, ids=["key", "no key"])
    @holds("cancel-2")
    async def test_closing_a_stream_cancels_the_work(self, lab: Lab, metadata: dict[str, str]) -> None:
        endless = Endless()
        await lab.host(endless)
        stream: Any = lab.stream(**metadata)
        await within(5, anext(stream), "a piece")
        await within(CANCEL_S + SLACK_S, stream.aclose(), "the end of a stream that is closed")
        await within(CANCEL_S + SLACK_S, endless.cancelled.wait(), "the end of the agent's work")

    @holds("cancel-3", grace_s=SHORT_GRACE_S)
    async def test_a_command_goes_on_when_its_sender_leaves(self, lab: Lab) -> None:
        gate = Gate()
        await lab.host(gate)
        sending = await begun(lab, gate, kind="command", idempotency_key="k")
        sending.cancel()
        await asyncio.wait({sending}, timeout=CANCEL_S + SLACK_S)
        await asyncio.sleep(SHORT_GRACE_S + 0.2)
        expect(not gate.ended.is_set(), "a running command", "it was cancelled" if gate.cancelled else "it ended")
        gate.open.set()
        await within(5, gate.ended.wait(), "the command's end")
        expect_equal(gate.cancelled, 0, "cancellations of a command:")

    @holds("cancel-4")
    async def test_cancelling_is_bounded_even_if_the_agent_hangs(self, lab: Lab) -> None:
        stubborn = Stubborn()
        await lab.host(stubborn)
        try:
            await leave(await begun(lab, stubborn, idempotency_key="k"))
        finally:
            stubborn.release.set()

    @holds("cancel-5")
    async def test_cancelling_leaves_no_task(self, lab: Lab) -> None:
        gate = Gate()
        await lab.host(gate)
        for number in range(120):
            if number == 20:
                before = resource_count.tasks()
            gate.started.clear()
            await leave(await begun(lab, gate, idempotency_key=str(number)))
        await eventually(
            lambda: len(resource_count.tasks()) <= len(before),
            SLACK_S,
            f"{len(before)} tasks",
            lambda: f"{len(resource_count.tasks())}: {', '.join(sorted(set(resource_count.tasks()))[:10])}",
        )

    @holds("cancel-6", grace_s=SHORT_GRACE_S)
    async def test_a_vanished_reader_frees_the_host(self, lab: Lab) -> None:
        if lab.claims.tasks:
            pytest.skip("claimed: tasks; a task goes on, and its caller can get it again")
        endless = {"with a key": Endless(), "without": Endless()}

        async def behave(context: Any, queue: Any) -> None:
            await endless[context.get_user_input()].execute(context, queue)

        wire = (await lab.host(Agent(behave))).wire
        streams: list[Any] = [lab.stream("with a key", idempotency_key="k"), lab.stream("without")]
        for stream in streams:
            await within(5, anext(stream), "a piece")
        await wire.refuse()
        until = time.monotonic() + HEARTBEAT_S + SHORT_GRACE_S + SLACK_S
        for kind, work in endless.items():
            what = f"the end of the work {kind}, after its reader vanished,"
            await within(until - time.monotonic(), work.cancelled.wait(), what)
