"""What a run survives: signals, workers that come and go, pipes that end, a second owner."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from e2e.protocols import EVERY
from e2e.waiting import lines, until, wait_for_lines


def test_resuming_a_finished_run_asks_nothing_again(stq, history) -> None:
    assert stq("run", "-p", "inproc", "-q", stq.questions(20), "-o", "run", "-s", "mock.latency_ms=1").returncode == 0
    before = (stq.directory / "run" / "results.jsonl").read_bytes()
    done = stq("resume", "run")
    assert (stq.directory / "run" / "results.jsonl").read_bytes() == before
    history.check(done.returncode, count=20)


def test_a_deleted_results_file_is_written_again_from_the_record(stq, history) -> None:
    assert stq("run", "-p", "inproc", "-q", stq.questions(20), "-o", "run", "-s", "mock.latency_ms=1").returncode == 0
    history.look()
    (stq.directory / "run" / "results.jsonl").unlink()
    history.check(stq("resume", "run").returncode, count=20)


@pytest.mark.parametrize("directory", ["nowhere", "."])
def test_there_is_nothing_to_resume(stq, directory: str) -> None:
    done = stq("resume", directory)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("protocol", [*EVERY, "inproc"])
def test_a_signal_drains_the_run_and_it_can_be_resumed(stq, history, protocol: str) -> None:
    number = signal.SIGINT if protocol == "a2a" else signal.SIGTERM
    arguments = ["run", "-q", str(stq.questions(1000)), "-p", protocol, "-o", "run", "-s", "mock.latency_ms=300"]
    process = stq.start(*arguments)
    wait_for_lines(stq.directory / "run" / "results.jsonl", 20)
    process.send_signal(number)
    _, talk = process.communicate(timeout=60)
    history.check(process.returncode, expected=128 + number)
    assert "stq resume run" in talk
    assert stq.manifest()["state"] == "stopped"
    rows = len(stq.rows())
    assert 20 <= rows < 1000
    done = stq("resume", "run", "-s", "mock.latency_ms=1")
    history.check(done.returncode, count=1000)
    assert {row["attempts"] for row in stq.rows()} == {1}


def test_a_second_signal_ends_at_once(stq, worker, agents) -> None:
    served = worker("--executor", "agents_of_others:Slow", protocol="http")
    process = stq.start("run", "-p", "http", "-n", "1", "-o", "run", "-s", f"qa.worker.endpoints=[{served.address}]")
    until((stq.directory / "runs.txt").exists)
    process.send_signal(signal.SIGINT)
    until(lambda: "finishing the questions in flight" in process.stderr.readline())
    time.sleep(1.1)  # two signals within a second count as one
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


def test_a_worker_that_dies_mid_run_costs_nothing(stq, history, held_worker) -> None:
    workers = [held_worker(protocol="http") for _ in range(4)]
    endpoints = ",".join(each.address for each in workers)
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(300)), "-o", "run", "-s", f"qa.worker.endpoints=[{endpoints}]"
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 4 * 40)
    workers[0].process.kill()
    stq.open_gate()
    _, talk = process.communicate(timeout=60)
    assert "Worker-1 is down" in talk
    history.check(process.returncode, count=300)
    assert all(row["attempts"] == 1 for row in stq.rows())


def test_a_worker_that_comes_back_is_used_again(stq, history, worker, held_worker) -> None:
    first = held_worker(protocol="http")
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(100)), "-o", "run", "-s", f"qa.worker.endpoints=[{first.address}]"
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 40)
    first.process.kill()
    first.process.wait()
    worker(latency_ms=5, port=first.port, protocol="http")
    _, talk = process.communicate(timeout=60)
    assert "Worker-1 is up" in talk
    history.check(process.returncode, count=100)


def test_with_no_worker_left_a_run_waits_stops_and_can_be_resumed(stq, history, held_worker, worker) -> None:
    only = held_worker(protocol="http")
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(100)), "-o", "run",
        "-s", f"qa.worker.endpoints=[{only.address}]", "-s", "scheduler.no_worker_timeout_s=3",
    )  # fmt: skip
    wait_for_lines(stq.directory / "run" / "results.jsonl", 40)
    only.process.kill()
    _, talk = process.communicate(timeout=60)
    assert "waiting for workers since" in talk
    figures = history.check(process.returncode, expected=69)
    assert figures["dead"] == 0
    only.process.wait()
    worker(latency_ms=1, port=only.port, protocol="http")
    history.check(stq("resume", "run").returncode, count=100)


def test_a_pipe_that_is_gone_keeps_what_was_read_and_says_so(stq, history) -> None:
    process = stq.start(
        "run", "-p", "inproc", "-q", "-", "-o", "run", "-s", "mock.latency_ms=20", stdin=subprocess.PIPE
    )
    assert process.stdin
    process.stdin.writelines(f'{{"id": "q{number}", "question": "What is {number}?"}}\n' for number in range(40))
    process.stdin.flush()
    until(lambda: lines(stq.directory / "run" / "results.jsonl") == 40)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    history.check(process.returncode, expected=143)
    done = stq("resume", "run")
    assert "40 questions" in done.stderr
    history.check(done.returncode, count=40)


def test_a_source_not_read_to_its_end_is_read_on(stq, history) -> None:
    stq.questions(3000)
    process = stq.start(
        "run", "-p", "inproc", "-q", "questions.jsonl", "-o", "run", "-s", "mock.latency_ms=100", "-w", "1", "-c", "1"
    )
    until((stq.directory / "run" / "queue.db").exists)
    process.kill()
    process.communicate()
    done = stq("resume", "run", "-s", "mock.latency_ms=0", "-s", "qa.worker.count=4", "-s", "qa.worker.concurrency=8")
    history.check(done.returncode, count=3000)


def test_two_resumes_at_the_same_time_have_one_winner(stq, history) -> None:
    process = stq.start("run", "-p", "inproc", "-q", stq.questions(300), "-o", "run", "-s", "mock.latency_ms=50")
    wait_for_lines(stq.directory / "run" / "results.jsonl", 20)
    process.kill()
    process.communicate(timeout=60)
    both = [stq.start("resume", "run", "-s", "mock.latency_ms=20") for _ in range(2)]
    talk = [each.communicate(timeout=60)[1] for each in both]
    assert not any("Traceback" in words for words in talk)
    codes = sorted(each.returncode for each in both)
    assert codes in ([0, 0], [0, 2]), talk  # 0, 0: the second began when the first had ended
    history.check(codes[0], count=300)
