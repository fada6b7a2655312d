"""Commands that take their time to start, or do not start at all."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from streaming_queue.comm.probing import StartingError
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.errors import ConnectError, UnavailableError
from streaming_queue.protocol_backend.mcp.comm import McpCommBackend
from streaming_queue.telemetry.events import Event, Notice

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

STARTER = Path(__file__).with_name("starter.py")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
async def made():
    backends: list[McpCommBackend] = []

    def make(**options: Any) -> McpCommBackend:
        backends.append(McpCommBackend(**options))
        return backends[-1]

    yield make
    for backend in backends:
        await backend.close()


def command(gate: Path, how: str, *more: str) -> str:
    return f"stdio:{shlex.join([sys.executable, '-S', str(STARTER), str(gate), how, *more])}"


def pid_of(backend: McpCommBackend) -> int:
    pid = backend._peers["w"].link.pid
    assert pid is not None
    return pid


async def settled(backend: McpCommBackend) -> Any:
    """What the probe tells once the command's start has ended."""
    async with asyncio.timeout(20):
        while isinstance(reason := await backend.probe("w"), StartingError):
            pass
    return reason


@pytest.mark.parametrize(("how", "version"), [("modern", "2026-07-28"), ("elder", "2025-06-18")])
async def test_a_late_server_is_waited_for_and_started_once(
    made: Any, gate: Path, monkeypatch: pytest.MonkeyPatch, how: str, version: str
):
    monkeypatch.setattr("streaming_queue.protocol_backend.mcp.negotiation.DISCOVERY_S", 0.1)
    backend = made()
    await backend.register_endpoint("w", command(gate, how))
    reason = await backend.probe("w")  # longer than the look at what it discloses: both requests wait in its input
    assert isinstance(reason, StartingError)
    assert "of 60 s" in str(reason)
    pid = pid_of(backend)
    asyncio.get_running_loop().call_later(0.7, gate.touch)
    assert await backend.health_check("w")
    assert pid_of(backend) == pid
    assert (await backend.describe("w"))["protocol"] == f"MCP {version}"
    assert (await backend.send("c", "w", {"text": "x"}))["text"] == "x"


async def test_the_network_waits_and_says_so(made: Any, gate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streaming_queue.core.network_health.HEALTH_BOUND_S", 1.0)
    told: list[str] = []

    def emit(event: Event) -> None:
        assert isinstance(event, Notice)
        told.append(event.text)
        gate.touch()

    network = NetworkBase(made(start_timeout_s=20.0))
    await network.register_agent("w", command(gate, "elder", "--api-key", "sesame-sesame"))
    async with asyncio.timeout(20):
        await network.require_health(emit=emit)
    assert told[0].startswith("w: waiting for `")
    assert told[0].endswith(" s of 20 s")
    assert "sesame" not in told[0]
    assert await network.health_check() == {"w": True}


async def test_a_command_that_ends_is_told_at_once_and_once(made: Any, gate: Path):
    backend = made()
    await backend.register_endpoint("w", command(gate, "breaks", "--token", "sesame-sesame"))
    assert isinstance(await backend.probe("w"), StartingError)
    first = pid_of(backend)
    gate.touch()
    await backend._peers["w"].agreed.settle()  # no probe waits meanwhile
    reason = await backend.probe("w")
    assert isinstance(reason, ConnectError)
    assert "the server ended (exit code 1): 'no such key: --token ***'" in str(reason)
    assert "sesame" not in str(reason)
    assert await settled(backend) is not None
    assert pid_of(backend) != first, "it is started anew when it is asked again"


async def test_a_command_that_only_babbles_is_given_up_with_its_words(made: Any, gate: Path):
    backend = made(start_timeout_s=0.7)
    await backend.register_endpoint("w", command(gate, "babbles", "KEY=sesame-sesame"))
    reason = await settled(backend)
    assert type(reason) is UnavailableError
    told = str(reason)
    assert r"on its standard output, not MCP: 'Welcome to the \x1b[31mstarter'" in told
    assert r"last on its standard error: 'opening the \x1b[31mbooks of KEY=***'" in told
    assert "sesame" not in told
    assert "\x1b" not in told


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("old", "no version in common: it wants '2023-01-01'"),
        ("new", "no version in common: it wants '2099-01-01'"),
        ("none", "answers `initialize` without a `protocolVersion`"),
    ],
)
async def test_a_version_that_is_not_ours_or_none_is_told(made: Any, gate: Path, how: str, words: str):
    gate.touch()
    backend = made()
    await backend.register_endpoint("w", command(gate, how))
    with pytest.raises(ConnectError) as caught:
        await backend.connect("c", "w")
    assert words in str(caught.value)


async def test_after_a_crash_it_has_the_same_time_again(made: Any, gate: Path):
    gate.touch()
    backend = made(start_timeout_s=20.0)
    await backend.register_endpoint("w", command(gate, "elder"))
    assert await settled(backend) is None
    gate.unlink()
    with pytest.raises(ConnectError, match="out of paper"):
        await backend.send("c", "w", {"text": "crash"})
    assert isinstance(await backend.probe("w"), StartingError)
    gate.touch()
    assert await settled(backend) is None
