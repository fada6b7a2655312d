"""Runs that begin while some of their workers are away."""

from __future__ import annotations

import json
import signal

import pytest
from e2e.waiting import assert_each_once, lines, until, wait_for_lines

NOBODY = "http://127.0.0.1:9"


def endpoints(*addresses: str) -> str:
    return f"qa.worker.endpoints={json.dumps(addresses)}"


def test_a_run_begins_with_the_workers_that_answer_and_takes_in_the_others(stq, held_worker, worker) -> None:
    first, later = held_worker(free=20, protocol="http"), held_worker(protocol="http")
    later.process.kill()
    later.process.wait()
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(60)), "-o", "run", "-c", "2",
        "-s", endpoints(first.address, later.address, NOBODY),
    )  # fmt: skip
    wait_for_lines(stq.directory / "run" / "results.jsonl", 20)
    worker(latency_ms=1, port=later.port, protocol="http")
    until(lambda: lines(stq.directory / "run" / "results.jsonl") >= 58)
    stq.open_gate()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "2 of 3 workers do not answer: 2 of 3 agents: " in talk
    assert "connection refused (Worker-2 at " in talk
    assert "Worker-2 is up" in talk
    rows = stq.rows()
    assert_each_once(rows, 60)
    assert {row["worker"] for row in rows} == {"Worker-1", "Worker-2"}
    assert {row["attempts"] for row in rows} == {1}


def test_all_workers_must_answer_if_that_is_asked_for(stq, worker) -> None:
    there = worker(latency_ms=1, protocol="http")
    arguments = ("-q", str(stq.questions(5)), "-o", "run", "-s", endpoints(there.address, NOBODY), "-p", "http")
    for wish in (("--require-all",), ("-s", "network.require_all=true")):
        done = stq("run", *arguments, *wish)
        assert done.returncode == 69, done.stderr
        assert not (stq.directory / "run" / "results.jsonl").exists()
    assert stq("run", *arguments).returncode == 0


def test_without_any_worker_no_run_begins(stq) -> None:
    done = stq("run", "-p", "http", "-q", str(stq.questions(5)), "-o", "run", "-s", endpoints(NOBODY, NOBODY + "/b"))
    assert done.returncode == 69
    assert "2 of 2 agents: cannot connect: connection refused" in done.stderr


def test_a_resume_begins_with_the_workers_that_answer(stq, held_worker) -> None:
    first, second = held_worker(free=5, protocol="http"), held_worker(free=5, protocol="http")
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(40)), "-o", "run",
        "-s", endpoints(first.address, second.address), "-s", "scheduler.drain_s=0",
    )  # fmt: skip
    wait_for_lines(stq.directory / "run" / "results.jsonl", 10)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    second.process.kill()
    second.process.wait()
    assert stq("resume", "run", "--require-all").returncode == 69
    stq.open_gate()
    done = stq("resume", "run")
    assert done.returncode == 0, done.stderr
    assert "1 of 2 workers do not answer: Worker-2 at " in done.stderr
    assert_each_once(stq.rows(), 40)


@pytest.mark.parametrize("away", ["http", "ws"])
def test_a_group_of_a_mixed_network_may_be_away(stq, worker, away: str) -> None:
    there = {protocol: worker(latency_ms=1, protocol=protocol).address for protocol in ("http", "ws")}
    there[away] = NOBODY.replace("http", away)
    groups = [{"protocol": protocol, "endpoints": [address]} for protocol, address in there.items()]
    done = stq("run", "-q", str(stq.questions(20)), "-o", "run", "-s", f"workers={json.dumps(groups)}")
    assert done.returncode == 0, done.stderr
    assert f"no worker over {away} answers" in done.stderr
    assert_each_once(stq.rows(), 20)


def test_a_pool_whose_workers_are_away_keeps_no_other_pool_from_its_work(stq, worker) -> None:
    there = worker(latency_ms=1, protocol="http")
    settings = ("-s", "network.topology=hierarchical", "-s", "network.pools={Sub-1: [Worker-1], Sub-2: [Worker-2]}")
    arguments = ("-q", str(stq.questions(20)), "-p", "http", "-s", endpoints(there.address, NOBODY), *settings)
    done = stq("run", *arguments, "-o", "run")
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 20)
    assert stq("run", *arguments, "-o", "other", "--require-all").returncode == 69


def test_a_worker_without_its_credential_is_out_and_the_others_go_on(stq, worker) -> None:
    closed = worker("-s", "network.token=only-for-friends", latency_ms=1, protocol="http")
    there = worker(latency_ms=1, protocol="http")
    done = stq("run", "-q", str(stq.questions(20)), "-p", "http", "-o", "run",
               "-s", endpoints(closed.address, there.address))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Worker-1 is down" in done.stderr
    assert "it will not be asked again" in done.stderr
    assert {row["worker"] for row in stq.rows()} == {"Worker-2"}
