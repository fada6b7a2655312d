"""A producer that never ends: it waits while the window is full, and the run's memory stays flat."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from e2e.waiting import lines, until, wait_for_lines

WINDOW = 200
PAD = "x" * 1000
IN_THE_PIPE = 400
"""Lines of a kilobyte that pipe, buffers and one read hold, with room to spare."""


class Producer:
    """Writes questions into a pipe for as long as it is read, or until `stop`; `written` says how many."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        self.written = 0
        self._stopping = False
        self._pipe, process.stdin = process.stdin, None  # not `communicate`'s to close
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        with suppress(BrokenPipeError), self._pipe:
            while not self._stopping:
                self._pipe.write(f'{{"id": "q{self.written}", "question": "What is {self.written} + 1? {PAD}"}}\n')
                self.written += 1

    @property
    def has_to_wait(self) -> bool:
        """Whether nothing was taken out of the pipe for a second."""
        return not select.select([], [self._pipe], [], 1.0)[1]

    def stop(self) -> int:
        """End the questions; how many there were."""
        self._stopping = True
        self._thread.join(60)
        return self.written


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
