"""Workers that answer badly, stand still, die of a question, flap, are slow or many; clients that repeat themselves."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys

import pytest
from e2e.protocols import some_of
from e2e.waiting import lines, until, wait_for_lines
from faults.producer import Producer
from faults.provider import Provider

from streaming_queue.exit_codes import ExitCode


@pytest.mark.parametrize(
    "kind",
    some_of(
        ["500", "429", "503", "garbage", "empty", "empty text", "html", "50 MB", "never"],
        "500",
        "429",
        "garbage",
        "never",
    ),
)
def test_a_bad_answer_is_a_typed_error_tried_elsewhere_and_never_an_answer(
    stq, history, worker, bad_worker, kind
) -> None:
    endpoints = f"{bad_worker(kind)},{worker(protocol='http').address}"
    done = stq(
        "run", "-p", "http", "-q", stq.questions(30), "-o", "run", "-c", "2",
        "-s", f"qa.worker.endpoints=[{endpoints}]",
        "-s", "network.message_timeout=1", "-s", "scheduler.retry_base_s=0.01",
    )  # fmt: skip
    history.check(done.returncode, count=30)
    rows = stq.rows()
    assert {row["worker"] for row in rows} == {"Worker-2"}
    assert all(row["answer"].startswith("[mock]") for row in rows)


def test_a_worker_that_stands_still_and_goes_on_is_not_heard_twice(stq, history, worker, agents) -> None:
    """SIGSTOP: its connections stay open. Its questions go elsewhere, and what it says afterwards is too late."""
    served = [worker("--executor", "agents_of_others:Counted", protocol="http") for _ in range(2)]
    endpoints = ",".join(each.address for each in served)
    process = stq.start(
        "run", "-q", stq.questions(600), "-p", "http", "-o", "run", "-c", "4",
        "-s", f"qa.worker.endpoints=[{endpoints}]", "-s", "scheduler.gone_after_s=1",
    )  # fmt: skip
    until(lambda: history.look() >= 40)
    served[0].process.send_signal(signal.SIGSTOP)
    at_that = history.look()
    until(lambda: history.look() >= at_that + 40)
    talk = [process.stderr.readline()]
    while "Worker-1 is down" not in talk[-1]:
        assert talk[-1], talk
        talk.append(process.stderr.readline())
    served[0].process.send_signal(signal.SIGCONT)
    _, rest = process.communicate(timeout=90)
    history.check(process.returncode, count=600)
    assert "Worker-2 is down" not in "".join(talk) + rest


def test_a_question_that_kills_its_worker_is_buried_and_the_others_are_answered(stq, history, worker, agents) -> None:
    served = [worker("--executor", "agents_of_others:Mortal", protocol="http") for _ in range(3)]
    path = stq.questions(60)
    texts = path.read_text().replace("What is 20 + 1?", "Is this poison?")
    path.write_text(texts)
    endpoints = ",".join(each.address for each in served)
    done = stq(
        "run", "-q", path, "-p", "http", "-o", "run", "-c", "1", "-s", "scheduler.max_attempts=2",
        "-s", f"qa.worker.endpoints=[{endpoints}]",
    )  # fmt: skip
    figures = history.check(done.returncode, expected=ExitCode.SOME_FAILED, count=60)
    assert (figures["dead"], figures["losses"] >= 1) == (1, True)
    (failed,) = [row for row in stq.rows() if row["status"] == "failed"]
    assert failed["question_id"] == "q20"
    assert "lost 2 workers in a row" in failed["error"]["message"]


def test_the_same_id_a_hundred_times_is_one_question(stq, history) -> None:
    line = json.dumps({"id": "q0", "question": "What is 0 + 1?"})
    done = stq("run", "-q", "-", "-p", "inproc", "-o", "run", "-s", "mock.latency_ms=1", stdin=f"{line}\n" * 100)
    history.check(done.returncode, count=1)
    assert stq.manifest()["summary"]["duplicates"] == 99


def test_few_file_descriptors_are_told_of_or_are_enough(stq, history) -> None:
    """With 64 of them a small run works; a run that needs more ends typed, and goes on where there are more."""
    command = [sys.executable, "-m", "streaming_queue.cli", "run", "-q", stq.questions(200), "-o", "run", "-p", "http"]
    done = subprocess.run(
        [*command, "-s", "mock.latency_ms=20"], cwd=stq.directory, env=stq.environment, capture_output=True, text=True,
        timeout=100, check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    if done.returncode:
        rows = stq.directory / "run" / "results.jsonl"
        assert "Too many open files" in done.stderr + (rows.read_text() if rows.exists() else "")
        history.look()
        done = stq("resume", "run", "-s", "mock.latency_ms=1")
    history.check(done.returncode, count=200)


def test_without_standard_streams(stq, history) -> None:
    command = [sys.executable, "-m", "streaming_queue.cli", "run", "-q", stq.questions(50), "-o", "run", "-p", "inproc"]
    script = 'exec "$@" >&- 2>&- <&-'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command, "-s", "mock.latency_ms=1"],
        cwd=stq.directory,
        env=stq.environment,
        timeout=100,
        check=False,
    )
    history.check(done.returncode, count=50)


def test_a_reader_of_the_output_that_went_away(stq, history) -> None:
    process = stq.start(
        "run", "-q", stq.questions(300), "-o", "run", "-p", "inproc", "--json", "-s", "mock.latency_ms=20"
    )
    history.saw([process.stdout.readline()])
    process.stdout.close()
    process.stdout = None
    code = process.wait(60)
    assert code in {ExitCode.OK, ExitCode.BROKEN_PIPE}
    history.check(code, expected=code)
    assert len(stq.rows()) == 300


def test_a_provider_that_is_down_for_a_while_costs_time_and_no_answer(stq, history) -> None:
    provider = Provider()
    environment = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "right-key"}
    process = stq.start("run", "-q", stq.questions(900), "-o", "run", "--model", "m", env=environment)
    wait_for_lines(stq.directory / "run" / "results.jsonl", 100)
    with provider.down():
        said = [process.stderr.readline()]
        while "keep failing, and now get one question at a time" not in said[-1]:
            assert said[-1], said
            said.append(process.stderr.readline())
    _, talk = process.communicate(timeout=90)
    provider.close()
    assert "answer again" in talk
    figures = history.check(process.returncode, count=900)
    assert figures["dead"] == 0


@pytest.mark.faults
@pytest.mark.interop
def test_a_provider_that_stays_down_leaves_dead_letters_to_be_replayed(stq, history) -> None:
    provider = Provider()
    environment = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "right-key"}
    process = stq.start(
        "run", "-q", stq.questions(200), "-o", "run", "--model", "m", "-c", "2", "-s", "scheduler.max_attempts=2",
        "-s", "scheduler.retry_per_s=100", env=environment,
    )  # fmt: skip
    wait_for_lines(stq.directory / "run" / "results.jsonl", 20)
    with provider.down():
        process.communicate(timeout=90)
        history.check(process.returncode, expected=ExitCode.SOME_FAILED, count=200)
    assert "LLMError" in stq("dlq", "list", "run").stdout
    assert stq("dlq", "replay", "run", "--reason", "LLMError").returncode == 0
    history.replayed()
    done = stq("resume", "run", env=environment)
    provider.close()
    figures = history.check(done.returncode, count=200)
    assert figures["dead"] == 0


@pytest.mark.faults
def test_three_of_eight_workers_killed_again_and_again(stq, history, worker, agents) -> None:
    served = [worker("--executor", "agents_of_others:Counted", protocol="http") for _ in range(8)]
    endpoints = ",".join(each.address for each in served)
    process = stq.start(
        "run", "-q", "-", "-p", "http", "-o", "run", "-c", "4", "-s", f"qa.worker.endpoints=[{endpoints}]",
        "-s", "qa.coordinator.window=500", stdin=subprocess.PIPE,
    )  # fmt: skip
    producer, rows = Producer(process), stq.directory / "run" / "results.jsonl"
    for turn in range(6):
        seen = lines(rows)
        wait_for_lines(rows, seen + 300)
        history.look()
        for place in range(turn, turn + 3):
            served[place % 8].process.kill()
            served[place % 8].process.wait()
        for place in range(turn, turn + 3):
            port = served[place % 8].port
            served[place % 8] = worker("--executor", "agents_of_others:Counted", port=port, protocol="http")
    count = producer.stop()
    process.communicate(timeout=110)
    history.check(process.returncode, count=count)


@pytest.mark.faults
def test_a_worker_ten_times_slower_than_the_others(stq, history, worker) -> None:
    served = [worker(latency_ms=latency_ms, protocol="http") for latency_ms in (20, 20, 200)]
    endpoints = ",".join(each.address for each in served)
    for hedge in ("true", "false"):
        done = stq(
            "run", "-q", stq.questions(600), "-p", "http", "-o", "run" if hedge == "true" else "plain", "-c", "4",
            "-s", f"qa.worker.endpoints=[{endpoints}]", "-s", f"scheduler.hedge={hedge}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    history.check(done.returncode, count=600)
    counts = {row["worker"] for row in stq.rows()}
    assert counts == {"Worker-1", "Worker-2", "Worker-3"}


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_sixty_four_workers_that_start_again_at_once(stq, history) -> None:
    """Their processes are children of the run: all are killed in one moment, and started again by it."""
    process = stq.start(
        "run", "-q", stq.questions(3000), "-p", "http", "-o", "run", "-w", "64", "-c", "2",
        "-s", "qa.worker.mode=process", "-s", "mock.latency_ms=3000",
    )  # fmt: skip
    until(lambda: history.look() >= 1, 300)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    assert len(children) == 64
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    seen = history.look()
    until(lambda: history.look() >= seen + 300, 300)
    process.terminate()
    process.communicate(timeout=120)
    history.check(process.returncode, expected=ExitCode.TERMINATED)
    done = stq("resume", "run", "-s", "mock.latency_ms=1", "-s", "qa.worker.mode=inprocess", "-s", "qa.worker.count=4")
    history.check(done.returncode, count=3000)
