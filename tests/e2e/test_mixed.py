"""Mixed networks as a user runs them: several protocols in one run, in processes, served, killed and resumed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from e2e.waiting import assert_each_once, wait_for_lines

FIVE = ("http", "a2a", "ws", "grpc", "nats")
MIXED = ("-s", "workers=[{protocol: ws}, {protocol: http, count: 2}, {}]")
FAST = ("-s", "mock.latency_ms=1")


@pytest.mark.interop
def test_a_thousand_questions_over_five_protocols_are_each_answered_once(stq) -> None:
    groups = ",".join(f"{{protocol: {protocol}}}" for protocol in FIVE)
    done = stq("run", "-p", "ws", "-q", stq.questions(1000), "-o", "run", "-s", f"workers=[{groups}]", *FAST)
    assert done.returncode == 0, done.stderr
    rows = stq.rows()
    assert_each_once(rows, 1000)
    assert all(row["status"] == "success" for row in rows)
    spoken = {f"Worker-{number}": protocol for number, protocol in enumerate(FIVE, 1)}
    assert {(row["worker"], row["protocol"]) for row in rows} == set(spoken.items())
    summary = stq.manifest()["summary"]
    assert set(summary["protocols"]) == set(FIVE)
    assert sum(figures["answered"] for figures in summary["protocols"].values()) == 1000
    assert stq.manifest()["protocol"] == "mixed"
    assert "Coordinator-1 ws://" in done.stderr
    assert "overhead p50" in done.stdout


@pytest.mark.interop
def test_workers_in_processes_and_models_to_compare(stq, openai_server) -> None:
    groups = "workers=[{protocol: ws}, {protocol: http, core: {type: openai, name: big}}]"
    environment = {"OPENAI_BASE_URL": openai_server, "OPENAI_API_KEY": "right-key"}
    done = stq(
        "run", "-q", stq.questions(60), "-o", "run", "--llm", "mock", "-s", groups, "-s", "qa.worker.mode=process",
        *FAST, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 60)
    answered = {(row["worker"], row["protocol"], row["model"], row["mock"]) for row in stq.rows()}
    assert answered == {
        ("Worker-1", "ws", "mock", True),
        ("Worker-2", "http", "big", False),
    }
    assert "Worker-2: LLM: openai, big" in done.stderr
    assert stq.manifest()["provider"] is None


@pytest.mark.interop
def test_some_run_already_and_some_are_started(stq, worker) -> None:
    there = worker(protocol="grpc")
    groups = f"workers=[{{protocol: grpc, endpoints: ['{there.address}']}}, {{protocol: http}}]"
    assert "Worker-1 at grpc://" in (doctor := stq("doctor", "-s", groups)).stdout, doctor.stdout
    assert doctor.returncode == 0, doctor.stdout
    done = stq("run", "-p", "inproc", "-q", stq.questions(80), "-o", "run", "-s", groups, *FAST)
    assert done.returncode == 0, done.stderr
    assert {(row["worker"], row["protocol"]) for row in stq.rows()} == {("Worker-1", "grpc"), ("Worker-2", "http")}


def test_a_served_coordinator_speaks_its_own_protocol(stq, coordinator) -> None:
    served = coordinator("-p", "grpc", "-q", str(stq.questions(60)), "-o", "run", *MIXED, *FAST)
    done = stq("dispatch", served.address, "-p", "grpc", "--follow")
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 60)
    assert {row["protocol"] for row in stq.rows()} == {"ws", "http", "grpc"}
    assert "overhead p50" in done.stdout
    served.process.terminate()
    assert served.process.wait(10) == 0


def test_a_choice_of_protocols_is_served_killed_and_resumed(stq, coordinator) -> None:
    auto = ("-p", "auto", "-s", "workers=[{protocol: ws}, {protocol: http}]", "-s", "mock.latency_ms=50")
    served = coordinator("-q", str(stq.questions(200)), "-o", "run", *auto)
    assert stq("dispatch", served.address).returncode == 0
    wait_for_lines(stq.directory / "run" / "results.jsonl", 40)
    served.process.kill()
    done = stq("resume", "run", "-s", "mock.latency_ms=1")
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 200)
    assert {row["protocol"] for row in stq.rows()} == {"ws", "http"}
    decided = stq.manifest()["summary"]["auto"]
    assert 0 < decided["questions"] < 200
    assert "auto: http, ws" in done.stdout
    assert "held back" in done.stdout
    assert stq("doctor", "run").returncode == 0


def test_a_worker_is_served_over_one_protocol(stq) -> None:
    (stq.directory / "auto.yaml").write_text("protocol: auto\nworkers: [{protocol: ws}, {protocol: http}]\n")
    done = stq("serve", "worker", "auto.yaml")
    assert done.returncode == 2
    assert "name the protocol of this worker with -p" in done.stderr


def test_the_mixed_network_without_a_configuration(stq) -> None:
    command = [sys.executable, "-m", "streaming_queue.runner.run_meta_network"]
    done = subprocess.run(
        command, cwd=stq.directory, env=stq.environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "5 workers over http (1), a2a (1), ws (1), grpc (1), nats (1)" in done.stderr
    (run,) = (stq.directory / "runs").iterdir()
    assert run.name.endswith("-mixed")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-s", "workers=[{}, {protocol: htpt}]"), "workers[1]: unknown protocol 'htpt': did you mean 'http'"),
        (("-s", "workers=[{protocol: ws}]", "-w", "2"), "--workers and -s: qa.worker.count and workers both define"),
        (
            ("-p", "auto", "-s", "workers=[{protocol: ws}, {protocol: a2a}]", "-s", "auto.identity=true"),
            "a2a lacks identity; ws lacks",
        ),
        (("-p", "auto"), "protocol auto chooses among protocols: give workers of at least two"),
        (("-s", "workers=[{protocol: inproc}]", "-s", "qa.worker.mode=process"), "only its own process can ask it"),
    ],
)
def test_a_mixed_network_that_cannot_be(stq, arguments: tuple[str, ...], words: str) -> None:
    done = stq("run", *arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
