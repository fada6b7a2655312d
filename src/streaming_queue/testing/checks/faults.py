"""Checks of the faults of a network: each fault becomes the right error, in time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from streaming_queue.comm.context import CallContext, calling
from streaming_queue.core.network_base import RUNNER_ID, NetworkBase
from streaming_queue.errors import ConnectError, ProtocolError, SendTimeoutError
from streaming_queue.testing.checks.steps import CANCEL_S, answers_again
from streaming_queue.testing.expect import SLACK_S, expect, expect_equal, expect_error, within
from streaming_queue.testing.lab import QUESTION, WAYS, Hosted, Lab
from streaming_queue.testing.relay import Relay
from streaming_queue.testing.verdict import holds

AT_ONCE_S = 2.0
BROKEN_S = 5.0
DEADLINE_S = 1.0


async def _warm(lab: Lab) -> tuple[Hosted, Relay]:
    """An agent that has answered once, and its relay."""
    agent = await lab.agent()
    wire = agent.wire
    await lab.send()
    return agent, wire


async def _asked_in_a_network(lab: Lab, agent: Hosted, way: str) -> Any:
    """The error or the answer of a question with a deadline, routed by a network."""
    network = NetworkBase(lab.backend, message_timeout_s=DEADLINE_S)
    await network.register_agent(agent.agent_id, agent.address)
    call = CallContext(deadline=time.monotonic() + DEADLINE_S, kind="question")
    with calling(call):
        if way == "send":
            reply = await network.route_message(RUNNER_ID, agent.agent_id, {"text": QUESTION})
            return reply.get("error") or reply["text"]
        events = [event async for event in network.stream_message(RUNNER_ID, agent.agent_id, {"text": QUESTION})]
        return events[-1].get("error") or events[-1].get("data")


class Faults:
    """Checks of the faults of a network."""

    @holds("fault-1")
    async def test_an_agent_that_was_stopped_is_gone(self, lab: Lab) -> None:
        lab.require(("host",))
        agent = await lab.agent()
        await lab.send()
        await agent.handle.stop()
        await _gone(lab, agent)

    @holds("fault-1")
    async def test_a_refused_connection(self, lab: Lab) -> None:
        agent, wire = await _warm(lab)
        await wire.refuse()
        await _gone(lab, agent)

    @holds("fault-2")
    async def test_a_connection_reset_before_the_answer(self, lab: Lab) -> None:
        _, wire = await _warm(lab)
        wire.reset()
        for way in WAYS:
            error = await expect_error(lab.ask(way), ConnectError, within_s=BROKEN_S)
            expect(error.retryable, "a retryable error", error)

    @pytest.mark.parametrize("way", WAYS)
    @holds("fault-3")
    async def test_half_an_answer_is_none(self, lab: Lab, way: str) -> None:
        _, wire = await _warm(lab)
        wire.cut(after_bytes=50_000)
        error = await expect_error(lab.ask(way, "x" * 200_000), (ConnectError, ProtocolError), within_s=BROKEN_S)
        expect(error.retryable, "a retryable error", error)

    @pytest.mark.parametrize("fault", ["silent", "late"])
    @pytest.mark.parametrize("way", WAYS)
    @holds("fault-4")
    async def test_a_silent_peer_is_left_at_the_deadline(self, lab: Lab, way: str, fault: str) -> None:
        if way == "stream" and not hasattr(lab.backend, "stream"):
            pytest.skip("the backend has no `stream`")
        agent, wire = await _warm(lab)
        if fault == "silent":
            wire.black_hole()
        else:
            wire.delay(30)
        limit_s = DEADLINE_S + CANCEL_S + SLACK_S
        came = await within(limit_s, _asked_in_a_network(lab, agent, way), "SendTimeoutError")
        expect(type(came) is SendTimeoutError, "SendTimeoutError", came)

    @holds("fault-5")
    async def test_a_slow_answer_is_an_answer(self, lab: Lab) -> None:
        _, wire = await _warm(lab)
        wire.delay(0.3)
        for way in WAYS:
            came = await within(10, lab.ask(way, "slow", deadline_ms=10_000), "an answer")
            expect_equal(came, "slow", f"by `{way}`, the answer")

    @pytest.mark.parametrize("fault", ["refused", "reset", "silent"])
    @holds("fault-6")
    async def test_the_agent_is_reached_again(self, lab: Lab, fault: str) -> None:
        agent, wire = await _warm(lab)
        if fault == "refused":
            await wire.refuse()
        elif fault == "reset":
            wire.reset()
        else:
            wire.black_hole()
        came = await within(DEADLINE_S + CANCEL_S + SLACK_S, _asked_in_a_network(lab, agent, "send"), "an error")
        expect(isinstance(came, Exception), "an error", came)
        await wire.restore()
        await answers_again(lab)

    @holds("fault-7")
    async def test_a_peer_that_speaks_something_else(self, lab: Lab) -> None:
        _, wire = await _warm(lab)
        wire.answer(b"220 mail.example ESMTP ready\r\n" * 3)
        for way in WAYS:
            await expect_error(lab.ask(way), (ConnectError, ProtocolError), within_s=BROKEN_S)


async def _gone(lab: Lab, agent: Hosted) -> None:
    for way in WAYS:
        error = await expect_error(lab.ask(way), ConnectError, within_s=AT_ONCE_S)
        expect(error.retryable, "a retryable error", error)
        expect(agent.place in str(error), f"{agent.place} in the error's text", error)
    expect_equal(await lab.backend.health_check(agent.agent_id), False, "the probe of an agent that is not there:")
