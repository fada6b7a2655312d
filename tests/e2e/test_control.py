"""A run is steered from another terminal: held at a gate while it is, so that no machine is too fast or too slow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

FAST = ("-s", "mock.latency_ms=0")
BROKEN = ("-s", "mock.failure_rate=1", "-s", "scheduler.max_attempts=1")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def told(stq, *arguments: str) -> dict:
    done = stq(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_is_paused_goes_on_drains_and_is_resumed_with_each_answer_once(stq, held_worker) -> None:
    worker = held_worker(free=40)
    arguments = ("-q", str(stq.questions(200)), "-o", "run", "-c", "4", "-s", f"qa.worker.endpoints=[{worker.address}]")
    process = stq.start("run", *arguments)
    until(lambda: (stq.directory / "run" / "results.jsonl").exists() and len(stq.rows()) == 40)
    paused = told(stq, "queue", "pause", "run")
    assert (paused["state"], paused["pid"]) == ("paused", process.pid)
    assert paused["counts"] == {"ready": 156, "leased": 4, "done": 40, "dead": 0, "total": 200}
    stq.open_gate()
    until(lambda: told(stq, "queue", "stats", "run")["counts"]["leased"] == 0)
    assert told(stq, "queue", "stats", "run")["counts"]["done"] == 44
    assert stq("queue", "drain", "run", "--wait").returncode == 0
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 75, talk
    assert "paused" in talk
    assert "stq resume run" in talk
    stopped = told(stq, "queue", "stats", "run")
    assert (stopped["state"], stopped["pid"], stopped["counts"]["done"]) == ("stopped", None, 44)
    assert (stq.directory / "run" / "queue.db.lock").read_bytes() == b""
    assert stq("resume", "run").returncode == 0
    assert len({row["question_id"] for row in stq.rows()}) == len(stq.rows()) == 200


def test_dead_letters_of_a_run_that_goes_on_are_asked_again_at_once(stq, coordinator, held_worker, bad_worker) -> None:
    """One worker gives an empty answer to everything, the other stands at its gate: the run cannot end meanwhile."""
    workers = ("--worker", bad_worker("empty"), "--worker", held_worker(free=0, protocol="http").address)
    settings = ("-s", "scheduler.max_attempts=1", "-s", "qa.worker.concurrency=1")
    served = coordinator("-p", "http", "-q", str(stq.questions(30)), "-o", "run", *workers, *settings)
    assert stq("dispatch", "-p", "http", served.address).returncode == 0
    until(lambda: told(stq, "queue", "stats", "run")["counts"]["dead"] > 0)
    letter = told(stq, "dlq", "list", "run", "--limit", "1")["dead_letters"][0]
    assert told(stq, "dlq", "show", "run", letter["question_id"])["history"][0]["outcome"] == "buried"
    assert told(stq, "dlq", "replay", "run", "--id", letter["question_id"])["live"] is True
    stq.open_gate()
    assert stq("attach", "-p", "http", served.address).returncode in (0, 3)
    assert len({row["question_id"] for row in stq.rows()}) == len(stq.rows()) == 30


def test_dead_letters_of_a_stopped_run_are_replayed_or_purged_and_the_rest_is_asked(stq) -> None:
    assert stq("run", "-q", str(stq.questions(5)), "-o", "run", *BROKEN).returncode == 3
    assert told(stq, "dlq", "purge", "run", "--id", "q0", "--yes") == {"purged": 1, "live": False}
    assert told(stq, "dlq", "replay", "run", "--reason", "BadResponseError") == {"replayed": 4, "live": False}
    assert stq.rows() == []
    assert stq.manifest()["state"] == "stopped"
    done = stq("resume", "run", "-s", "mock.failure_rate=0")
    assert done.returncode == 0, done.stderr
    assert {row["question_id"]: row["status"] for row in stq.rows()} == dict.fromkeys(
        ("q1", "q2", "q3", "q4"), "success"
    )


def test_new_limits_on_resume_are_kept(stq) -> None:
    arguments = ("-q", str(stq.questions(50)), "-o", "run", *FAST)
    assert stq("run", *arguments, "-n", "10", "-w", "2").returncode == 0
    done = stq("resume", "run", "-n", "30", "-w", "3", "-s", "scheduler.max_attempts=7")
    assert done.returncode == 0, done.stderr
    assert len(stq.rows()) == 30
    kept = stq.manifest()["config"]
    assert (kept["qa"]["worker"]["count"], kept["scheduler"]["max_attempts"]) == (3, 7)
