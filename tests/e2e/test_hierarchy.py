"""Pools behind sub-coordinators, as a user runs them: in one command, in processes of their own, and killed."""

from __future__ import annotations

import json
import os
import signal

import pytest
from e2e.waiting import assert_each_once, wait_for_lines

TWO_POOLS = (
    "-s", "network.topology=hierarchical",
    "-s", "network.pools={Sub-1: {count: 2, protocol: http}, Sub-2: [Worker-3, Worker-4]}",
)  # fmt: skip


@pytest.fixture
def pool(worker):
    """`pool(address, ..., protocol="a2a", pool_protocol="http")` serves a sub-coordinator."""

    def start(*addresses: str, pool_protocol: str = "http", **options):
        members = [argument for address in addresses for argument in ("--pool", address)]
        return worker(*members, "--pool-protocol", pool_protocol, **options)

    return start


@pytest.mark.parametrize("protocol", ["a2a", "http", "inproc"])
def test_a_run_over_two_pools(stq, protocol: str) -> None:
    done = stq("run", "-p", protocol, "-q", stq.questions(60), "-o", "run", *TWO_POOLS, "-s", "mock.latency_ms=5")
    assert done.returncode == 0, done.stderr
    rows = stq.rows()
    assert_each_once(rows, 60)
    assert {row["worker"] for row in rows} == {"Sub-1", "Sub-2"}
    assert {row["protocol"] for row in rows} == {protocol}
    assert "(http: Worker-1 http://127.0.0.1:" in done.stderr
    assert f"({protocol}: Worker-3 {'inproc' if protocol == 'inproc' else 'http'}://" in done.stderr
    assert "32 at a time over 2 workers" in done.stderr
    assert set(stq.manifest()["summary"]["workers"]) == {"Sub-1", "Sub-2"}


@pytest.mark.interop
def test_a_run_over_pools_of_processes_on_three_levels(stq) -> None:
    pools = "network.pools={Top: {workers: [Left, Right], protocol: http}, Left: {count: 1}, Right: {count: 1}}"
    done = stq(
        "run", "-q", stq.questions(40), "-o", "run", "-s", "network.topology=hierarchical", "-s", pools,
        "-s", "qa.worker.mode=process", "-s", "mock.latency_ms=5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 40)
    assert "(http: Left http" in done.stderr


def test_a_killed_run_over_pools_is_resumed_over_pools(stq) -> None:
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(400)), "-o", "run", *TWO_POOLS, "-s", "mock.latency_ms=500"
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 60)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = stq("resume", "run", "-s", "mock.latency_ms=1")
    assert done.returncode == 0, done.stderr
    rows = stq.rows()
    assert_each_once(rows, 400)
    assert {row["worker"] for row in rows} == {"Sub-1", "Sub-2"}


def test_wrong_credentials_at_every_leaf_are_77_and_keep_the_questions(stq, openai_server) -> None:
    environment = {"OPENAI_BASE_URL": openai_server, "OPENAI_API_KEY": "wrong-key"}
    done = stq("run", "-p", "http", "-q", stq.questions(20), "-o", "run", "--model", "m", *TWO_POOLS, env=environment)
    assert done.returncode == 77, done.stderr
    assert "wrong-key" not in done.stderr
    assert stq.rows() == []
    assert stq.manifest()["state"] == "stopped"


def test_a_served_coordinator_has_its_pools(stq, coordinator) -> None:
    served = coordinator("-q", str(stq.questions(40)), "-o", "run", *TWO_POOLS, "-s", "mock.latency_ms=5")
    done = stq("dispatch", served.address, "--follow")
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 40)
    assert {row["worker"] for row in stq.rows()} == {"Sub-1", "Sub-2"}
    served.process.terminate()
    assert served.process.wait(60) == 0


@pytest.mark.parametrize(("top", "below"), [("a2a", "http"), pytest.param("http", "a2a", marks=pytest.mark.interop)])
def test_a_killed_sub_coordinator_costs_nothing(stq, held_worker, pool, top: str, below: str) -> None:
    leaves = [held_worker(protocol=below).address for _ in range(4)]
    subs = [pool(*pair, protocol=top, pool_protocol=below) for pair in (leaves[:2], leaves[2:])]
    endpoints = ",".join(sub.address for sub in subs)
    process = stq.start(
        "run",
        "-q",
        str(stq.questions(300)),
        "-o",
        "run",
        "-p",
        top,
        "-c",
        "16",
        "-s",
        f"qa.worker.endpoints=[{endpoints}]",
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 4 * 40)
    subs[0].process.kill()
    stq.open_gate()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "Worker-1 is down" in talk
    rows = stq.rows()
    assert_each_once(rows, 300)
    assert all(row["status"] == "success" and row["attempts"] == 1 for row in rows)
    assert stq.manifest()["summary"]["losses"] > 0


def test_a_killed_leaf_costs_nothing_and_its_pool_goes_on(stq, held_worker) -> None:
    leaves = [held_worker(protocol="http") for _ in range(4)]
    endpoints = ",".join(leaf.address for leaf in leaves)
    process = stq.start(
        "run", "-p", "http", "-q", str(stq.questions(300)), "-o", "run", "-s", f"qa.worker.endpoints=[{endpoints}]",
        "-s", "network.topology=hierarchical",
        "-s", "network.pools={Sub-1: {count: 2, protocol: http}, Sub-2: {count: 2, protocol: http}}",
    )  # fmt: skip
    wait_for_lines(stq.directory / "run" / "results.jsonl", 4 * 40)
    leaves[0].process.kill()
    stq.open_gate()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "Worker-1 is down" in talk
    assert "Sub-1 is down" not in talk
    rows = stq.rows()
    assert_each_once(rows, 300)
    assert all(row["status"] == "success" and row["attempts"] == 1 for row in rows)
    assert "losses" not in stq.manifest()["summary"] or stq.manifest()["summary"]["losses"] == 0


@pytest.mark.interop
def test_a_pool_that_lost_its_leaves_is_used_again_when_they_are_back(stq, worker, held_worker, pool) -> None:
    leaf = held_worker(protocol="http")
    sub = pool(leaf.address, protocol="http")
    process = stq.start(
        "run", "-q", str(stq.questions(100)), "-o", "run", "-p", "http", "-s", f"qa.worker.endpoints=[{sub.address}]"
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 40)
    leaf.process.kill()
    leaf.process.wait()
    worker(latency_ms=5, port=leaf.port, protocol="http")
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "Worker-1 is up" in talk
    rows = stq.rows()
    assert_each_once(rows, 100)
    assert {row["attempts"] for row in rows} == {1}


def test_a_pool_by_itself_is_asked_tells_its_figures_and_drains(stq, worker, pool) -> None:
    leaves = [worker(protocol="http").address for _ in range(2)]
    served = pool(*leaves, protocol="a2a")
    told = json.loads(stq("ask", served.address, "What is 1 + 1?", "-p", "a2a", "--json").stdout)
    assert told["text"].startswith("[mock]")
    assert told["metadata"]["mock"] is True
    streamed = stq("ask", served.address, "What is 1 + 1?", "-p", "a2a", "--stream")
    assert streamed.stdout == told["text"] + "\n"
    status = stq("status", served.address, "-p", "a2a")
    assert status.stdout.startswith("Sub-1: 2 of 2 workers up, 0 of 16 slots busy, 0 questions waiting, 2 answered")
    served.process.terminate()
    assert served.process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--pool", "nowhere"), 2, "nowhere"),
        (("--pool", "http://127.0.0.1:9", "--pool", "http://127.0.0.1:9"), 2, "an address is given twice"),
        (("--pool", "http://127.0.0.1:9", "--llm", "mock"), 2, "--llm"),
        (("--pool", "http://127.0.0.1:9", "--pool-protocol", "htpt"), 2, "did you mean 'http'"),
        (("--pool-protocol", "http"), 2, "--pool ADDRESS"),
    ],
)
def test_a_pool_that_cannot_be_served(stq, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = stq("serve", "worker", "-p", "http", *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
