"""Checks of addresses."""

from __future__ import annotations

import pytest

from streaming_queue.errors import ConfigError, UnknownAgentError
from streaming_queue.testing.executors import Agent, Recorder, whole
from streaming_queue.testing.expect import SLACK_S, expect, expect_equal, expect_error
from streaming_queue.testing.lab import WAYS, Lab
from streaming_queue.testing.verdict import holds


class Addressing:
    """Checks of addresses."""

    @holds("address-1")
    async def test_an_unregistered_id(self, lab: Lab) -> None:
        for way in WAYS:
            error = await expect_error(lab.ask(way, agent_id="missing"), UnknownAgentError, within_s=SLACK_S)
            expect("missing" in str(error), "the id in the error's text", error)

    @holds("address-2")
    async def test_a_wrong_scheme_is_refused(self, lab: Lab) -> None:
        if not getattr(lab.backend, "schemes", ()):
            pytest.skip("the protocol takes addresses of any scheme (`schemes`)")
        wrong = "no-such-scheme://127.0.0.1:1"
        await expect_error(lab.backend.register_endpoint("w", wrong), ConfigError, within_s=SLACK_S)

    @holds("address-3")
    async def test_a_new_address_takes_the_old_ones_place(self, lab: Lab) -> None:
        first = await lab.host(Agent(whole("first")), "a")
        second = await lab.host(Agent(whole("second")), "b")
        for agent, name in ((first, "first"), (first, "first"), (second, "second"), (first, "first")):
            await lab.backend.register_endpoint("w", agent.address)
            expect_equal((await lab.send())["text"], name, f"with {agent.address} registered, the answer of")

    @holds("address-4")
    async def test_connecting_costs_no_question(self, lab: Lab) -> None:
        if not hasattr(lab.backend, "connect"):
            pytest.skip("the backend has no `connect`")
        recorder = Recorder()
        await (lab.host(recorder) if lab.hosts else lab.agent())
        for _ in range(3):
            await lab.backend.connect("kit", "w")
        expect_equal(recorder.seen, [], "questions at the agent:")
        await lab.send("after it")
        expect(not lab.hosts or recorder.seen == ["after it"], "exactly the question that was sent", recorder.seen)
