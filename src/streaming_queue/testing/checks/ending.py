"""Checks of probes and of closing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from streaming_queue.errors import BackendClosedError, CommError, ConnectError
from streaming_queue.testing import resource_count
from streaming_queue.testing.checks.steps import begun, unhealthy
from streaming_queue.testing.executors import Echo, Gate, Stubborn
from streaming_queue.testing.expect import SLACK_S, eventually, expect, expect_equal, expect_error, within
from streaming_queue.testing.lab import STOP_S, WAYS, Lab
from streaming_queue.testing.verdict import holds

PROBE_S = 3.0
DESCRIBE_S = 5.0


class Probing:
    """Checks of probes."""

    @holds("health-1")
    async def test_an_agent_that_serves_is_healthy(self, lab: Lab) -> None:
        await lab.agent()
        expect_equal(await lab.backend.health_check("w"), True, "the probe:")

    @holds("health-2")
    async def test_a_stopped_agent_is_unhealthy(self, lab: Lab) -> None:
        agent = await lab.host(Echo())
        expect_equal(await lab.backend.health_check("w"), True, "before, the probe:")
        await agent.handle.stop()
        await unhealthy(lab, "a stopped agent")

    @holds("health-3")
    async def test_an_unregistered_id_is_unhealthy(self, lab: Lab) -> None:
        came = await within(PROBE_S, lab.backend.health_check("missing"), "the probe's answer")
        expect_equal(came, False, "the probe of an unregistered id:")

    @holds("health-4")
    async def test_the_probe_of_a_silent_peer_is_bounded(self, lab: Lab) -> None:
        wire = (await lab.agent()).wire
        await lab.send()
        wire.black_hole()
        came = await within(PROBE_S + SLACK_S, lab.backend.health_check("w"), "the probe's answer")
        expect_equal(came, False, "the probe of a silent peer:")

    @holds("health-5")
    async def test_a_description_costs_no_question(self, lab: Lab) -> None:
        if not hasattr(lab.backend, "describe"):
            pytest.skip("the backend has no `describe`")
        gate = Gate()
        agent = await lab.host(gate)
        facts = await within(DESCRIBE_S, lab.backend.describe("w"), "a description")
        expect(isinstance(facts, Mapping), "a mapping", facts)
        expect(not facts or "w" in facts.values(), "the agent's id in its description, if it has one", dict(facts))
        expect_equal(gate.runs, 0, "questions at the agent:")
        await agent.handle.stop()
        try:
            facts = await within(DESCRIBE_S, lab.backend.describe("w"), "an error")
        except CommError:
            return
        expect_equal(dict(facts), {}, "the description of an agent that is not there:")


class Closing:
    """Checks of closing."""

    @holds("close-1")
    async def test_closing_is_bounded_and_idempotent(self, lab: Lab) -> None:
        stubborn = Stubborn()
        await lab.host(stubborn)
        sending = await begun(lab, stubborn)
        try:
            closing = asyncio.gather(lab.backend.close(), lab.backend.close())
            await within(STOP_S + SLACK_S, closing, "the end of `close`")
            await expect_error(sending, (ConnectError, BackendClosedError), within_s=SLACK_S)
        finally:
            stubborn.release.set()
        await within(SLACK_S, lab.backend.close(), "the end of `close` on a closed backend")

    @holds("close-2")
    async def test_after_closing_nothing_is_sent(self, lab: Lab) -> None:
        gate = Gate()
        await lab.host(gate)
        sending = await begun(lab, gate)
        await within(STOP_S + SLACK_S, lab.backend.close(), "the end of `close`")
        await expect_error(sending, (ConnectError, BackendClosedError), within_s=SLACK_S)
        for way in WAYS:
            await expect_error(lab.ask(way), BackendClosedError, within_s=SLACK_S)
        expect_equal(await lab.backend.health_check("w"), False, "the probe:")

    @holds("close-3")
    async def test_closing_leaves_no_task(self, lab: Lab) -> None:
        before = resource_count.tasks()
        await lab.agent()
        for way in WAYS:
            await lab.ask(way)
        await lab.backend.health_check("w")
        await lab.backend.close()
        left = resource_count.tasks
        await eventually(
            lambda: len(left()) <= len(before), SLACK_S, "no task of the backend", lambda: ", ".join(left())
        )
