"""What a run survives: killed coordinators and workers, signals, bad peers, a second owner."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from e2e.protocols import EVERY, some_of


def until(condition, timeout_s: float = 50.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(path: Path, count: int) -> None:
    until(lambda: lines(path) >= count)


def assert_each_once(rows: list[dict], count: int) -> None:
    ids = Counter(row["question_id"] for row in rows)
    assert set(ids) == {f"q{number}" for number in range(count)}
    assert set(ids.values()) == {1}


def test_killed_at_any_moment_a_run_is_resumed_with_nothing_lost_and_nothing_twice(stq) -> None:
    count, chance = 400, random.Random(7)
    results = stq.directory / "run" / "results.jsonl"
    arguments = [
        "run",
        "-q",
        str(stq.questions(count)),
        "-p",
        "inproc",
        "-o",
        "run",
        "-s",
        "mock.latency_ms={mean: 300, sigma: 0.5}",
    ]
    recorded: set[str] = set()
    for kill in range(4):
        process = stq.start(*arguments)
        if kill == 0:
            until((stq.directory / "run" / "run.json").exists)
        else:
            wait_for_lines(results, len(recorded) + chance.randrange(2, 60))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        whole = results.read_bytes().rpartition(b"\n")[0] if results.exists() else b""
        seen = {line.split(b'"', 4)[3].decode() for line in whole.splitlines()}
        assert recorded <= seen
        recorded = seen
        if (stq.directory / "run" / "queue.db").exists():
            arguments = ["resume", "run"]
    done = stq("resume", "run", "-s", "mock.latency_ms=1")
    assert done.returncode == 0, done.stderr
    rows = stq.rows()
    assert_each_once(rows, count)
    assert {row["attempts"] for row in rows} == {1}
    assert stq.manifest()["summary"]["answered"] == count


def test_resuming_a_finished_run_asks_nothing_again(stq) -> None:
    assert stq("run", "-p", "inproc", "-q", stq.questions(20), "-o", "run", "-s", "mock.latency_ms=1").returncode == 0
    before = (stq.directory / "run" / "results.jsonl").read_bytes()
    done = stq("resume", "run")
    assert done.returncode == 0, done.stderr
    assert (stq.directory / "run" / "results.jsonl").read_bytes() == before


def test_a_deleted_results_file_is_written_again_from_the_record(stq) -> None:
    assert stq("run", "-p", "inproc", "-q", stq.questions(20), "-o", "run", "-s", "mock.latency_ms=1").returncode == 0
    (stq.directory / "run" / "results.jsonl").unlink()
    assert stq("resume", "run").returncode == 0
    assert_each_once(stq.rows(), 20)


@pytest.mark.parametrize("directory", ["nowhere", "."])
def test_there_is_nothing_to_resume(stq, directory: str) -> None:
    done = stq("resume", directory)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("protocol", [*EVERY, "inproc"])
def test_a_signal_drains_the_run_and_it_can_be_resumed(stq, protocol: str) -> None:
    number = signal.SIGINT if protocol == "a2a" else signal.SIGTERM
    arguments = ["run", "-q", str(stq.questions(1000)), "-p", protocol, "-o", "run", "-s", "mock.latency_ms=300"]
    process = stq.start(*arguments)
    wait_for_lines(stq.directory / "run" / "results.jsonl", 20)
    process.send_signal(number)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 128 + number, talk
    assert "stq resume run" in talk
    assert stq.manifest()["state"] == "stopped"
    rows = len(stq.rows())
    assert 20 <= rows < 1000
    done = stq("resume", "run", "-s", "mock.latency_ms=1")
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 1000)
    assert {row["attempts"] for row in stq.rows()} == {1}


def test_a_second_signal_ends_at_once(stq, worker, agents) -> None:
    served = worker("--executor", "agents_of_others:Slow", protocol="http")
    process = stq.start("run", "-p", "http", "-n", "1", "-o", "run", "-s", f"qa.worker.endpoints=[{served.address}]")
    until((stq.directory / "runs.txt").exists)
    process.send_signal(signal.SIGINT)
    until(lambda: "finishing what is in flight" in process.stderr.readline())
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130  # half a minute is what it would have waited


def test_a_second_run_on_one_directory_is_refused_with_the_owners_pid(stq) -> None:
    process = stq.start(
        "run", "-p", "inproc", "-q", str(stq.questions(1000)), "-o", "run", "-s", "mock.latency_ms=1000"
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 1)
    done = stq("resume", "run")
    again = stq("run", "-o", "run")
    for refused in (done, again):
        assert refused.returncode == 2
        assert f"in use by process {process.pid}" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert stq.manifest()["state"] == "running"


def test_a_worker_that_dies_mid_run_costs_nothing(stq, held_worker) -> None:
    workers = [held_worker(protocol="http") for _ in range(4)]
    endpoints = ",".join(each.address for each in workers)
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(300)), "-o", "run", "-s", f"qa.worker.endpoints=[{endpoints}]"
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 4 * 40)
    workers[0].process.kill()
    stq.open_gate()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "Worker-1 is down" in talk
    rows = stq.rows()
    assert_each_once(rows, 300)
    assert all(row["status"] == "success" and row["attempts"] == 1 for row in rows)


def test_a_worker_that_comes_back_is_used_again(stq, worker, held_worker) -> None:
    first = held_worker(protocol="http")
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(100)), "-o", "run", "-s", f"qa.worker.endpoints=[{first.address}]"
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 40)
    first.process.kill()
    first.process.wait()
    worker(latency_ms=5, port=first.port, protocol="http")
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "Worker-1 is up" in talk
    assert_each_once(stq.rows(), 100)


def test_with_no_worker_left_the_rest_fails_with_the_reason(stq, held_worker) -> None:
    only = held_worker(protocol="http")
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(100)), "-o", "run",
        "-s", f"qa.worker.endpoints=[{only.address}]", "-s", "scheduler.no_worker_timeout_s=1",
    )  # fmt: skip
    wait_for_lines(stq.directory / "run" / "results.jsonl", 40)
    only.process.kill()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 3, talk
    rows = stq.rows()
    assert_each_once(rows, 100)
    failed = [row for row in rows if row["status"] == "failed"]
    assert failed
    assert all("no worker was reachable" in row["error"]["message"] for row in failed)


@pytest.mark.parametrize(
    "kind", some_of(["500", "garbage", "empty", "empty text", "html", "50 MB", "never"], "500", "garbage", "never")
)
def test_a_bad_answer_is_a_typed_error_tried_elsewhere_and_never_an_answer(stq, worker, bad_worker, kind) -> None:
    endpoints = f"{bad_worker(kind)},{worker(protocol='http').address}"
    done = stq(
        "run", "-p", "http", "-q", stq.questions(30), "-o", "run", "-c", "2",
        "-s", f"qa.worker.endpoints=[{endpoints}]",
        "-s", "network.message_timeout=1", "-s", "scheduler.retry_base_s=0.01",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = stq.rows()
    assert_each_once(rows, 30)
    assert {row["worker"] for row in rows} == {"Worker-2"}
    assert all(row["answer"].startswith("[mock]") for row in rows)


def test_a_pipe_that_is_gone_keeps_what_was_read_and_says_so(stq) -> None:
    process = stq.start(
        "run", "-p", "inproc", "-q", "-", "-o", "run", "-s", "mock.latency_ms=20", stdin=subprocess.PIPE
    )
    assert process.stdin
    process.stdin.writelines(f'{{"id": "q{number}", "question": "What is {number}?"}}\n' for number in range(40))
    process.stdin.flush()
    until(lambda: lines(stq.directory / "run" / "results.jsonl") == 40)
    process.send_signal(signal.SIGTERM)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 143, talk
    done = stq("resume", "run")
    assert done.returncode == 0, done.stderr
    assert "40 questions" in done.stderr
    assert_each_once(stq.rows(), 40)


def test_a_source_not_read_to_its_end_is_read_on(stq) -> None:
    stq.questions(3000)
    process = stq.start(
        "run", "-p", "inproc", "-q", "questions.jsonl", "-o", "run", "-s", "mock.latency_ms=100", "-w", "1", "-c", "1"
    )
    until((stq.directory / "run" / "queue.db").exists)
    process.kill()
    process.communicate()
    done = stq("resume", "run", "-s", "mock.latency_ms=0", "-s", "qa.worker.count=4", "-s", "qa.worker.concurrency=8")
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 3000)
