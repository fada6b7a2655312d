"""Checks of hosted agents."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from streaming_queue.errors import ConnectError
from streaming_queue.testing.checks.steps import answers_again, begun, unhealthy
from streaming_queue.testing.executors import Echo, Gate, Stubborn
from streaming_queue.testing.expect import SLACK_S, expect, expect_equal, expect_error, within
from streaming_queue.testing.lab import STOP_S, Lab
from streaming_queue.testing.verdict import holds


class Hosting:
    """Checks of hosted agents."""

    @holds("host-1")
    async def test_a_hosted_agent_is_ready(self, lab: Lab) -> None:
        handle = await lab.spawn(Echo())
        expect_equal(getattr(handle, "agent_id", None), "w", "the handle's agent_id:")
        address = getattr(handle, "base_url", None)
        expect(isinstance(address, str), "an address as the handle's base_url", address)
        await lab.backend.register_endpoint("w", address)
        expect_equal((await lab.send("at once"))["text"], "at once", "the answer")

    @holds("host-2")
    async def test_a_taken_port_is_a_connect_error(self, lab: Lab) -> None:
        handle = await lab.spawn(Echo(), "a")
        port = await _own_port(lab, handle.base_url)
        if not port:
            pytest.skip(f"no port of its own: {handle.base_url}")
        await expect_error(lab.spawn(Echo(), "c", port), ConnectError, within_s=5)

    @holds("host-3")
    async def test_a_stopped_agent_is_hosted_again_at_its_address(self, lab: Lab) -> None:
        agent = await lab.host(Echo())
        address = agent.handle.base_url
        port = await _own_port(lab, address)
        await lab.send()
        for _ in range(2):
            await agent.handle.stop()
            agent.handle = await within(5, lab.spawn(Echo(), port=port), "a new host at the same port")
            expect_equal(agent.handle.base_url, address, "the address")
            await answers_again(lab)

    @holds("host-4")
    async def test_stopping_fails_messages_in_flight(self, lab: Lab) -> None:
        gate = Gate()
        agent = await lab.host(gate)
        sending = await begun(lab, gate)
        await within(STOP_S + SLACK_S, asyncio.gather(agent.handle.stop(), agent.handle.stop()), "the end of `stop`")
        await within(SLACK_S, agent.handle.stop(), "the end of `stop` on a stopped agent")
        error = await expect_error(sending, ConnectError, within_s=SLACK_S)
        expect(error.retryable, "a retryable error", error)
        expect_equal(gate.cancelled, 1, "cancellations of the agent's work:")

    @holds("host-5")
    async def test_stopping_is_bounded_even_if_the_agent_hangs(self, lab: Lab) -> None:
        stubborn = Stubborn()
        agent = await lab.host(stubborn)
        sending = await begun(lab, stubborn)
        try:
            await within(STOP_S + SLACK_S, agent.handle.stop(), "the end of `stop`")
            await expect_error(sending, ConnectError, within_s=SLACK_S)
        finally:
            stubborn.release.set()

    @holds("host-6")
    async def test_draining_finishes_messages_in_flight(self, lab: Lab) -> None:
        gate = Gate()
        agent = await lab.host(gate)
        if not hasattr(agent.handle, "drain"):
            pytest.skip("the handle has no `drain`")
        sending = await begun(lab, gate)
        draining = asyncio.create_task(agent.handle.drain(10), name="drain")
        await unhealthy(lab, "a draining agent")
        error = await expect_error(lab.send("another"), ConnectError, within_s=SLACK_S)
        expect(error.retryable, "a retryable error", error)
        expect(not draining.done(), "a drain that waits for the message in flight", "it ended")
        gate.open.set()
        expect_equal((await within(5, sending, "the answer in flight"))["text"], "answer 1", "the answer in flight")
        await within(5, draining, "the end of `drain`")


async def _own_port(lab: Lab, address: str) -> int:
    """The port of an agent; 0 if it has none, or shares the port of a server."""
    other = await lab.spawn(Echo(), "b")
    port = urlsplit(address).port
    return 0 if port is None or port == urlsplit(other.base_url).port else port
