"""A producer that never ends: it waits while the window is full, and the run's memory stays flat."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.waiting import lines, until, wait_for_lines
from faults.producer import Producer

WINDOW = 200
IN_THE_PIPE = 400
"""Lines of a kilobyte that pipe, buffers and one read hold, with room to spare."""


def test_whoever_writes_into_the_pipe_waits_while_the_window_is_full(stq, history, held_worker) -> None:
    served = held_worker(free=40, protocol="http")
    process = stq.start(
        "run", "-p", "http", "-q", "-", "-o", "run", "-s", f"qa.coordinator.window={WINDOW}",
        "-s", f"qa.worker.endpoints=[{served.address}]", stdin=subprocess.PIPE,
    )  # fmt: skip
    producer = Producer(process)
    wait_for_lines(stq.directory / "run" / "results.jsonl", 40)
    until(lambda: producer.has_to_wait)
    assert WINDOW < producer.written < 40 + WINDOW + IN_THE_PIPE
    stq.open_gate()
    until(lambda: producer.written > 2000)
    count = producer.stop()
    process.communicate(timeout=60)
    history.check(process.returncode, count=count)


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_an_endless_pipe_takes_no_more_memory_the_longer_it_runs(stq, history) -> None:
    process = stq.start(
        "run", "-p", "inproc", "-q", "-", "-o", "run", "-s", f"qa.coordinator.window={WINDOW}",
        "-s", "mock.latency_ms=0", stdin=subprocess.PIPE,
    )  # fmt: skip
    producer, rows = Producer(process), stq.directory / "run" / "results.jsonl"
    until(lambda: lines(rows) > 30_000, 100)
    before = _resident_kib(process.pid)
    until(lambda: lines(rows) > 90_000, 200)
    assert _resident_kib(process.pid) - before < 8 * 1024
    assert producer.written - lines(rows) < 10 * WINDOW + IN_THE_PIPE
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    history.check(process.returncode, expected=130)


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
