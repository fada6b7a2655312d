"""What a run makes of A2A agents that do not keep to the protocol: a typed error, another worker, never an answer."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.protocols import some_of
from e2e.waiting import assert_each_once

HERE = Path(__file__).parent

CARDS = ["card html", "card 404", "card 50 MB", "card elsewhere", "card unusable", "card version"]
ERRORS = {
    "FAILED": {"AgentFailedError"},
    "REJECTED": {"AgentFailedError"},
    "CANCELED": {"AgentFailedError"},
    "INPUT_REQUIRED": {"AgentFailedError"},
    "NO_SUCH_STATE": {"ProtocolError"},
    "ends early": {"ProtocolError"},
    "breaks off": {"ConnectError"},
    "never ends": {"SendTimeoutError"},
    "version": {"ProtocolError"},
    **{f"{kind} later": {"ProtocolError"} for kind in CARDS},  # without the card nothing is sent, and nothing fails
}
HASTE = ("-s", "network.message_timeout=1", "-s", "scheduler.retry_base_s=0.01")


@pytest.fixture
def bad_agent() -> Iterator[Callable[[str], str]]:
    """`bad_agent(kind)` starts an A2A agent that is bad in this way; its address."""
    started: list[subprocess.Popen[str]] = []

    def start(kind: str) -> str:
        command = [sys.executable, str(HERE / "bad_a2a_process.py"), kind]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def run(stq, *addresses: str, count: int = 20) -> subprocess.CompletedProcess[str]:
    endpoints = f"qa.worker.endpoints=[{','.join(addresses)}]"
    return stq("run", "-p", "a2a", "-q", stq.questions(count), "-o", "run", "-c", "2", "-s", endpoints, *HASTE)


@pytest.mark.parametrize("kind", some_of(ERRORS, "FAILED", "breaks off", "never ends"))
def test_a_bad_agents_questions_are_answered_elsewhere(stq, worker, bad_agent, kind: str) -> None:
    address = bad_agent(kind)
    done = run(stq, address, worker().address)
    assert done.returncode == 0, done.stderr
    rows = stq.rows()
    assert_each_once(rows, 20)
    assert {row["worker"] for row in rows} == {"Worker-2"}
    assert all(row["answer"].startswith("[mock]") for row in rows)
    with closing(sqlite3.connect(stq.directory / "run" / "queue.db")) as database:
        failures = [json.loads(row[0]) for row in database.execute("SELECT failure FROM attempt") if row[0]]
    assert {failure["type"] for failure in failures} == ERRORS[kind]
    assert all(address in failure["message"] for failure in failures)


def test_an_agent_that_wants_more_authentication_is_out(stq, worker, bad_agent) -> None:
    address = bad_agent("AUTH_REQUIRED")
    done = run(stq, address, count=2)
    assert done.returncode == 77, done.stderr
    assert address in done.stderr
    assert stq.rows() == []
    endpoints = f"qa.worker.endpoints=[{address},{worker().address}]"
    done = stq("resume", "run", "-s", endpoints)
    assert done.returncode == 0, done.stderr
    assert {row["worker"] for row in stq.rows()} == {"Worker-2"}


def test_a_failure_that_nobody_can_mend_stands_in_the_results_with_the_address(stq, bad_agent) -> None:
    address = bad_agent("REJECTED")
    done = run(stq, address, count=2)
    assert done.returncode == 3, done.stderr
    rows = stq.rows()
    assert_each_once(rows, 2)
    for row in rows:
        assert (row["status"], row["answer"], row["error"]["type"]) == ("failed", None, "AgentFailedError")
        assert row["error"]["message"] == f"{address}: the agent rejected the task: 'the made-up reason'"


@pytest.mark.parametrize("kind", some_of([*CARDS, "gone"], "card html", "gone"))
def test_an_agent_without_a_usable_card_is_named_before_anything_is_asked(stq, bad_agent, kind: str) -> None:
    address = "http://127.0.0.1:9" if kind == "gone" else bad_agent(kind)
    done = run(stq, address)
    assert done.returncode == 69, done.stderr
    assert address in done.stderr
    assert not (stq.directory / "run" / "results.jsonl").exists()


def test_a_stream_that_repeats_itself_is_one_answer(stq, bad_agent) -> None:
    done = run(stq, bad_agent("repeats"))
    assert done.returncode == 0, done.stderr
    assert {row["answer"] for row in stq.rows()} == {"ever so good"}
