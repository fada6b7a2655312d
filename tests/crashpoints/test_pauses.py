"""Processes that stand still for a while, and wall clocks that jump."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from e2e.waiting import until

from streaming_queue.exit_codes import ExitCode

DAY_S = 86_400

# libfaketime makes the sleeps of this interpreter fail (EINVAL) after a jump forward.
CLOCK = """
import os, time

def shifted(real=time.time, path=os.environ["CLOCK_OFFSET"]):
    with open(path) as file:
        return real() + int(file.read())

time.time = shifted
"""


def overlapping(log) -> set[str]:
    """Questions that were asked while they were being answered."""
    under_way, found = set(), set()
    for what, question, _ in log.read():
        if what == "answered":
            under_way.discard(question)
        elif question in under_way:
            found.add(question)
        else:
            under_way.add(question)
    return found


@pytest.mark.faults
def test_a_coordinator_that_stood_still_beyond_its_leases_asks_nothing_twice_at_once(stq, history, witness) -> None:
    peer = witness(1)
    log = peer.log
    process = stq.start(
        "run", "-q", stq.questions(16), "-p", "http", "-o", "run", "-c", "8",
        "-s", f"qa.worker.endpoints=[{peer.address}]", "-s", "scheduler.lease_s=0.2",
    )  # fmt: skip
    until(lambda: len(log.asked()) >= 8)
    process.send_signal(signal.SIGSTOP)
    refused = stq("resume", "run")  # this takes longer than a lease lasts
    assert refused.returncode == ExitCode.USAGE
    assert f"in use by process {process.pid}" in refused.stderr
    assert f"kill -CONT {process.pid}" in refused.stderr
    process.send_signal(signal.SIGCONT)
    _, talk = process.communicate(timeout=60)
    assert "Traceback" not in talk
    history.check(process.returncode, count=16)
    assert not overlapping(log)


@pytest.mark.faults
def test_a_worker_that_stood_still_costs_no_answer(stq, history, witness) -> None:
    first, other = witness(0.1), witness(0.1)
    process = stq.start(
        "run", "-q", stq.questions(200), "-p", "http", "-o", "run", "-c", "4",
        "-s", f"qa.worker.endpoints=[{first.address},{other.address}]", "-s", "scheduler.gone_after_s=1",
    )  # fmt: skip
    until(lambda: history.look() >= 40)
    other.process.send_signal(signal.SIGSTOP)
    rows = history.look()
    until(lambda: history.look() >= rows + 60)
    other.process.send_signal(signal.SIGCONT)
    _, talk = process.communicate(timeout=60)
    assert "Traceback" not in talk
    history.check(process.returncode, count=200)
    assert max((first.log.asked() + other.log.asked()).values()) <= 2


@pytest.fixture
def clock(tmp_path: Path):
    """Environment of a process whose wall clock is off by the seconds in a file; and how to set them."""
    file = tmp_path / "offset"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)

    def jump(seconds: int) -> None:
        new = file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(file)

    jump(0)
    return {"PYTHONPATH": str(tmp_path / "clock"), "CLOCK_OFFSET": str(file)}, jump


@pytest.mark.parametrize("seconds", [DAY_S, -DAY_S])
def test_a_clock_that_jumps_delays_nothing(stq, history, witness, clock, seconds: int) -> None:
    """The jump is between a failure and its retry, once within a process and once between two."""
    peer, (environment, jump) = witness(), clock
    log = peer.log
    peer.refuse.touch()
    process = stq.start(
        "run", "-q", stq.questions(12), "-p", "http", "-o", "run", "-s", f"qa.worker.endpoints=[{peer.address}]",
        "-s", "scheduler.max_attempts=1000", "-s", "scheduler.retry_base_s=0.5", "-s", "scheduler.retry_cap_s=0.5",
        env=environment,
    )  # fmt: skip
    until(lambda: max(log.asked().values(), default=0) >= 2 and history.look() == 8)
    jump(seconds)
    asked = log.asked().total()
    until(lambda: log.asked().total() >= asked + 4)
    process.kill()
    process.communicate(timeout=60)
    jump(3 * seconds)
    peer.refuse.unlink()
    process = stq.start("resume", "run", env=environment)
    _, talk = process.communicate(timeout=60)
    assert "Traceback" not in talk
    history.check(process.returncode, count=12)
    assert not {question for question, count in log.asked().items() if count > 1 and int(question.split()[2]) % 3}
    rows = [json.loads(line) for line in (stq.directory / "run" / "results.jsonl").read_text().splitlines()]
    assert all(value >= 0 for row in rows for key, value in row.items() if key.endswith("_ms") and value is not None)
    assert max(row["queue_ms"] for row in rows) < 60_000
