"""A backend that cannot host is held to the contract against an agent that somebody else runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from conformance.client_only import ClientOnly

from streaming_queue.testing import BackendContract
from streaming_queue.testing.running import run_kit

AGENT = """
import asyncio
from streaming_queue.protocol_backend.http.comm import HttpCommBackend
from streaming_queue.testing import Echo

async def main():
    backend = HttpCommBackend()
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())
    print(handle.base_url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", AGENT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.kill()


class TestAgainstAnEcho(BackendContract):
    backend_class = ClientOnly
    endpoint_echoes = True

    @pytest.fixture
    def endpoint(self, address: str) -> str:
        return address


def test_a_backend_that_hosts_may_be_asked_for_an_agent_of_others(address: str) -> None:
    report = run_kit("http", endpoint=address, echoes=True)
    assert report.failed == ()
    outcomes = {line.line.id: line for line in report.lines}
    assert outcomes["send-3"].outcome == outcomes["fault-4"].outcome == outcomes["leak-1"].outcome == "held"
    assert outcomes["cancel-1"].told == (f"the agent at {address} is not ours: its behaviour is not known",)


def test_without_an_endpoint_all_that_needs_an_agent_is_skipped_with_the_reason() -> None:
    report = run_kit("conformance.client_only:ClientOnly")
    held = {line.line.id for line in report.lines if line.outcome == "held"}
    assert held == {"address-1", "address-2", "health-3", "claim-1"}
    assert report.failed == ()
    reasons = {told for line in report.lines if line.outcome == "skipped" for told in line.told}
    assert reasons == {"the backend cannot host agents in this process, and the test gives no `endpoint`"}
