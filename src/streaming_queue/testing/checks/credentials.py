"""Checks of credentials."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.probing import answers, probed
from streaming_queue.errors import AuthError, ConfigError
from streaming_queue.testing.executors import Echo
from streaming_queue.testing.expect import SLACK_S, expect, expect_error, within
from streaming_queue.testing.lab import WAYS, Lab
from streaming_queue.testing.verdict import holds

PROBE_S = 3.0
RIGHT, WRONG = "the-right-credential", "a-wrong-credential"


class Credentials:
    """Checks of credentials."""

    @holds("credential-1")
    async def test_a_wrong_credential_is_reported_as_that(self, lab: Lab) -> None:
        backend = lab.backend
        if not (hasattr(backend, "options") and hasattr(backend, "host_options")):
            pytest.skip("the backend has no credentials: it has neither `options` nor `host_options`")

        async def principal_of(credential: str) -> str | None:
            return "kit" if credential == RIGHT else None

        backend.host_options = replace(backend.host_options, authenticator=principal_of)
        backend.options = {"w": EndpointOptions(credential=WRONG), "known": EndpointOptions(credential=RIGHT)}
        try:
            agent = await lab.host(Echo())
        except ConfigError as error:
            pytest.skip(f"the backend sends no credentials: {error}")
        await backend.register_endpoint("known", agent.wire.address(agent.address))
        await within(SLACK_S, lab.send(agent_id="known"), "an answer for the right credential")
        for way in WAYS:
            await expect_error(lab.ask(way), AuthError, within_s=SLACK_S)
        reason = await within(PROBE_S + SLACK_S, probed(backend, "w"), "the report of the probe")
        expect(answers(reason), "AuthError by the probe, or that the agent is healthy", reason)
