"""Networks that lose, cut, hold back and crawl; clocks that jump."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from e2e.protocols import some_of
from e2e.waiting import until
from faults.machine import program

from streaming_queue.testing.relay import Relay

FAULTS: dict[str, Callable[[Relay], Awaitable[None] | None]] = {
    "reset": Relay.reset,
    "reset in an answer": lambda relay: relay.cut(40),
    "black hole": Relay.black_hole,
    "refuses": Relay.refuse,
    "slow": lambda relay: relay.delay(0.3),
    "garbage": lambda relay: relay.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\0\1\2"),
}


async def rows(history, count: int) -> None:
    """Wait until so many ends are acknowledged."""
    async with asyncio.timeout(60):
        while await asyncio.to_thread(history.look) < count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=[pytest.mark.faults, pytest.mark.timeout(400)])])
@pytest.mark.parametrize("fault", some_of(FAULTS, "reset in an answer", "black hole"))
async def test_a_way_to_a_worker_that_fails_and_is_mended(stq, history, worker, fault, times) -> None:
    """Ten times over it is a worker that flaps."""
    addresses = [worker(latency_ms=10, protocol="http").address for _ in range(2)]
    relay = Relay.to(addresses[0])
    assert relay is not None
    async with relay:
        process = stq.start(
            "run", "-q", stq.questions(400 * times), "-p", "http", "-o", "run", "-c", "2",
            "-s", f"qa.worker.endpoints=[{relay.address(addresses[0])},{addresses[1]}]",
            "-s", "scheduler.gone_after_s=1", "-s", "scheduler.retry_base_s=0.01",
        )  # fmt: skip
        for turn in range(times):
            await rows(history, 400 * turn + 40)
            broken = FAULTS[fault](relay)
            if broken is not None:
                await broken
            await rows(history, 400 * turn + 200)
            await relay.restore()
        await asyncio.to_thread(process.communicate, None, 100)
    history.check(process.returncode, count=400 * times)


NETWORKS = {
    "10 % loss": ("nft add table ip t", "nft add chain ip t i '{ type filter hook input priority 0; }'",
                  "nft add rule ip t i tcp dport != 0 numgen random mod 100 '<' 10 drop"),
    "resets": ("nft add table ip t", "nft add chain ip t i '{ type filter hook input priority 0; }'",
               "nft add rule ip t i ip protocol tcp numgen random mod 1000 '<' 5 reject with tcp reset"),
    "1 Mbit/s": ("tc qdisc add dev lo root tbf rate 1mbit burst 32kbit latency 400ms",),
}  # fmt: skip


@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_bad_network(stq, history, network, kind) -> None:
    """Coordinator and workers in a network of their own, on whose loopback it happens."""
    program(NETWORKS[kind][0].split()[0])
    command = [
        sys.executable, "-m", "streaming_queue.cli", "run", "-q", stq.questions(400), "-p", "http", "-o", "run", "-c", "2",
        "-s", "mock.latency_ms=20", "-s", "scheduler.max_attempts=20",
    ]  # fmt: skip
    done = subprocess.run(
        [*network(*NETWORKS[kind]), *map(str, command)], cwd=stq.directory, env=stq.environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    history.check(done.returncode, count=400)


@pytest.mark.faults
@pytest.mark.parametrize("jump", ["+1h", "-1h"])
def test_a_wall_clock_that_jumps(stq, history, jump) -> None:
    """The time of day, mid-run; the steady clock goes on, as it does on a machine whose time is set."""
    libraries = [
        Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"),
        *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
    ]
    library = next((path for path in libraries if path.exists()), None)
    if library is None:
        pytest.skip("libfaketime is not installed")
    clock = stq.directory / "clock"
    clock.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    process = stq.start(
        "run", "-q", stq.questions(600), "-p", "inproc", "-o", "run", "-s", "mock.latency_ms=100",
        "-s", "mock.error_rate=0.1", "-s", "scheduler.retry_base_s=0.2", env=environment,
    )  # fmt: skip
    until(lambda: history.look() >= 40)
    clock.write_text(f"{jump}\n")
    process.communicate(timeout=100)
    history.check(process.returncode, count=600)
    stamps = sorted(row["timestamp"] for row in stq.rows())
    assert stamps[0][:13] != stamps[-1][:13], "the clock did jump"
    assert all(row["response_time"] < 60 for row in stq.rows())
    assert all(row["queue_ms"] < 60_000 for row in stq.rows())
