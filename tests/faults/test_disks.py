"""Disks that are full, broken or read-only, and databases that are damaged."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from e2e.waiting import until
from faults.history import History
from faults.machine import program

from streaming_queue.exit_codes import ExitCode

FAST = ("-p", "inproc", "-s", "mock.latency_ms=1")
LONG = "x" * 300


def questions(stq, count):
    """So long that they fill a small disk."""
    path = stq.directory / "questions.jsonl"
    lines = ({"id": f"q{number}", "question": f"What is {number} + 1? {LONG}"} for number in range(count))
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def waits_for_space(process) -> list[str]:
    """What the run says until it waits for space."""
    talk: list[str] = []
    while not talk or "waiting for space" not in talk[-1]:
        talk.append(process.stderr.readline())
        assert talk[-1], talk
    return talk


def test_a_full_disk_pauses_the_run_until_there_is_room(stq, small_disk) -> None:
    run = small_disk("size=1m") / "run"
    history = History(run)
    process = stq.start("run", "-q", questions(stq, 3000), "-o", run, *FAST)
    talk = waits_for_space(process)
    history.look()
    state = json.loads(stq("top", run, "--once", "--json").stdout)
    assert "waiting for space" in state["waiting"]
    small_disk("size=60m")
    talk += process.communicate(timeout=90)[1]
    assert "Traceback" not in "".join(talk)
    assert "there is space again" in "".join(talk)
    history.check(process.returncode, count=3000)


def test_a_run_that_waits_for_space_can_be_stopped_and_resumed(stq, small_disk) -> None:
    run = small_disk("size=1m") / "run"
    history = History(run)
    process = stq.start("run", "-q", questions(stq, 3000), "-o", run, *FAST, "-s", "scheduler.drain_s=1")
    talk = waits_for_space(process)
    process.terminate()
    talk += process.communicate(timeout=60)[1]
    assert process.returncode in {ExitCode.STOPPED, ExitCode.TERMINATED}
    assert "Traceback" not in "".join(talk)
    history.look()
    small_disk("size=60m")
    assert stq("doctor", run).returncode == 0
    history.check(stq("resume", run, "-s", "mock.latency_ms=1").returncode, count=3000)


@pytest.mark.parametrize(
    "sync", [3, pytest.param(1, marks=pytest.mark.faults), pytest.param(12, marks=pytest.mark.faults)]
)
def test_a_sync_that_fails_ends_the_run_and_is_not_tried_again(stq, history, sync) -> None:
    trace = stq.directory / "trace"
    command = [
        program("strace"), "-f", "-qq", "-o", trace, "-e", "trace=fdatasync", "-e", f"inject=fdatasync:error=EIO:when={sync}+",
        sys.executable, "-m", "streaming_queue.cli", "run", "-q", questions(stq, 1000), "-o", "run", *FAST,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=stq.directory, env=stq.environment, capture_output=True, text=True, timeout=100, check=False
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not: {done.stderr.splitlines()[0]}")
    assert done.returncode == ExitCode.INTERNAL, done.stderr
    assert "the disk failed (SQLITE_IOERR_FSYNC)" in done.stderr
    assert "Traceback" not in done.stderr
    assert trace.read_text().count("(INJECTED)") == 1, "a second one would lie"
    history.look()
    assert stq("doctor", "run").returncode == 0
    history.check(stq("resume", "run", "-s", "mock.latency_ms=1").returncode, count=1000)


def test_a_read_only_disk_is_told_before_anything_is_asked(stq, small_disk) -> None:
    disk = small_disk("size=20m")
    assert stq("run", "-n", "5", "-o", disk / "run", *FAST).returncode == 0
    small_disk("ro,size=20m")
    for arguments, code in (
        (("run", "-n", "5", "-o", disk / "other", *FAST), ExitCode.USAGE),
        (("resume", disk / "run"), ExitCode.INTERNAL),
    ):
        done = stq(*arguments)
        assert done.returncode == code, done.stderr
        assert "Read-only file system" in done.stderr
        assert "Traceback" not in done.stderr
    small_disk("rw,size=20m")
    History(disk / "run").check(stq("resume", disk / "run").returncode)


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def flipped(path):
    """Bits of every page: no process has it open, and none was killed over it, so nobody looks until it is read."""
    content = bytearray(path.read_bytes())
    for place in range(4096, len(content), 256):
        content[place] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncated, flipped])
def test_a_damaged_database_is_a_typed_error_and_what_was_acknowledged_is_exported(stq, history, damage) -> None:
    process = stq.start("run", "-q", stq.questions(600), "-o", "run", "-p", "inproc", "-s", "mock.latency_ms=50")
    until(lambda: history.look() >= 100)
    process.terminate()
    process.communicate(timeout=60)
    history.check(process.returncode, expected=ExitCode.TERMINATED)
    damage(stq.directory / "run" / "queue.db")

    done = stq("doctor", "run", "--json")
    found = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert (done.returncode, found["queue.db"]["level"]) == (ExitCode.USAGE, "problem")
    assert "stq doctor run --repair" in found["queue.db"]["remedy"]
    rows = (stq.directory / "run" / "results.jsonl").read_bytes()
    resumed = stq("resume", "run")
    assert resumed.returncode in {ExitCode.USAGE, ExitCode.INTERNAL}, resumed.stderr
    assert "is damaged" in resumed.stderr
    assert "Traceback" not in resumed.stderr
    assert (stq.directory / "run" / "results.jsonl").read_bytes() == rows

    done = stq("repair", "run", "--json")
    assert done.returncode in {ExitCode.OK, ExitCode.SOME_FAILED}, done.stderr
    told = json.loads(done.stdout)
    kept = [json.loads(line) for line in (stq.directory / "run-repaired" / "results.jsonl").read_text().splitlines()]
    answers = {row["question_id"]: row["answer"] for row in kept}
    assert len(answers) == len(kept) == told["answered"]
    assert answers == dict(history.acknowledged)
    left = (stq.directory / "run-repaired" / "questions.jsonl").read_text().splitlines()
    assert len(left) == told["open"] + told["unknown"]
    if left:
        assert stq("run", "-q", "run-repaired/questions.jsonl", "-o", "rest", *FAST).returncode == 0


def test_a_reader_that_stays_does_not_stop_the_run(stq, history) -> None:
    process = stq.start("run", "-q", stq.questions(1500), "-o", "run", "-p", "inproc", "-s", "mock.latency_ms=20")
    until(lambda: history.look() >= 10)
    with closing(sqlite3.connect(f"file:{stq.directory}/run/queue.db?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT done FROM meta").fetchone()
        _, talk = process.communicate(timeout=90)
        assert reader.execute("SELECT done FROM meta").fetchone() == before
    assert "Traceback" not in talk
    history.check(process.returncode, count=1500)
