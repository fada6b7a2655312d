"""Networks that lose, cut, hold back and slow down; clocks that jump."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime

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
    await asyncio.to_thread(until, lambda: history.look() >= count, 60)


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


FILTER = "nft add table ip t && nft add chain ip t i '{ type filter hook input priority 0; }' && nft add rule ip t i"
NETWORKS = {
    "10 % loss": f"{FILTER} numgen random mod 100 '<' 10 drop",
    "resets": f"{FILTER} ip protocol tcp numgen random mod 1000 '<' 5 reject with tcp reset",
    "1 Mbit/s": "tc qdisc add dev lo root tbf rate 1mbit burst 32kbit latency 400ms",
}


@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_bad_network(stq, history, network, kind) -> None:
    """Coordinator and workers in a network of their own, on whose loopback it happens in the middle of the run."""
    program(NETWORKS[kind].split()[0])
    command = network(NETWORKS[kind], after=history.directory / "results.jsonl")
    arguments = ["run", "-q", stq.questions(600), "-p", "http", "-o", "run", "-c", "2"]
    arguments += ["-s", "mock.latency_ms=50", "-s", "scheduler.max_attempts=20"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "streaming_queue.cli", *map(str, arguments)],
        cwd=stq.directory, env=stq.environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    history.check(done.returncode, count=600)


JUMPING = """
import os, time
real = time.time
def jumped():
    with open(os.environ["TEST_CLOCK"]) as file:
        return real() + float(file.read() or 0)
time.time = jumped
"""


@pytest.mark.parametrize("jump_s", [pytest.param(3600, marks=pytest.mark.faults), -3600])
def test_a_wall_clock_that_jumps(stq, history, jump_s) -> None:
    """The time of day, mid-run; the steady clock goes on, as it does on a machine whose time is set."""
    (stq.directory / "sitecustomize.py").write_text(JUMPING)
    clock = stq.directory / "clock"
    clock.write_text("0")
    paths = os.pathsep.join([str(stq.directory), *sys.path])
    process = stq.start(
        "run", "-q", stq.questions(800), "-p", "inproc", "-o", "run", "-s", "mock.latency_ms=50",
        env={"PYTHONPATH": paths, "TEST_CLOCK": str(clock)},
    )  # fmt: skip
    until(lambda: history.look() >= 40)
    clock.write_text(str(jump_s))
    process.communicate(timeout=100)
    history.check(process.returncode, count=800)
    rows = stq.rows()
    moments = sorted(datetime.fromisoformat(row["timestamp"]).timestamp() for row in rows)
    assert moments[-1] - moments[0] > 3000, "the clock did jump"
    assert all(row["response_time"] < 60 and 0 <= row["queue_ms"] < 60_000 for row in rows)
