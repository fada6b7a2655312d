"""A run is steered from another terminal: held at a gate while it is, so that no machine is too fast or too slow."""

from __future__ import annotations

import json

from e2e.waiting import until

FAST = ("-s", "mock.latency_ms=0")
BROKEN = ("-s", "mock.failure_rate=1", "-s", "scheduler.max_attempts=1")


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


def test_workers_join_and_leave_a_run_that_goes_on(stq, held_worker, worker) -> None:
    first = held_worker(free=10, protocol="http")
    second = worker(protocol="http")
    arguments = ("-p", "http", "-q", str(stq.questions(300)), "-o", "run", "-c", "2")
    process = stq.start("run", *arguments, "-s", f"qa.worker.endpoints=[{first.address}]")
    until(lambda: (stq.directory / "run" / "results.jsonl").exists() and len(stq.rows()) == 10)
    (alone,) = told(stq, "workers", "list", "run")
    assert {key: alone[key] for key in ("id", "address", "state", "busy", "limit", "answered", "protocol")} == {
        "id": "Worker-1", "address": first.address, "state": "up", "busy": 2, "limit": 2, "answered": 10,
        "protocol": "http",
    }  # fmt: skip
    assert told(stq, "workers", "drain", "run", "Worker-1")[0]["state"] == "draining"
    assert [each["id"] for each in told(stq, "workers", "add", "run", second.address)] == ["Worker-1", "Worker-2"]
    until(lambda: len(stq.rows()) == 298)
    assert [each["id"] for each in told(stq, "workers", "remove", "run", "Worker-1")] == ["Worker-2"]
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "Worker-2 joined the run" in talk
    assert "Worker-1 left the run" in talk
    rows = stq.rows()
    assert len({row["question_id"] for row in rows}) == len(rows) == 300
    assert {row["attempts"] for row in rows} == {1}
    assert list(stq.manifest()["summary"]["workers"]) == ["Worker-1", "Worker-2"]
    for command in (("list", "run"), ("add", "run", second.address), ("drain", "run", "Worker-2")):
        done = stq("workers", *command)
        assert (done.returncode, "the run is done" in done.stderr) == (2, True), done.stderr


def test_who_cannot_join_is_told_why(stq, held_worker) -> None:
    worker = held_worker(free=1, protocol="http")
    arguments = ("-p", "http", "-q", str(stq.questions(4)), "-o", "run", "-c", "1")
    process = stq.start("run", *arguments, "-s", f"qa.worker.endpoints=[{worker.address}]")
    until(lambda: (stq.directory / "run" / "results.jsonl").exists() and len(stq.rows()) == 1)
    nobody = stq("workers", "add", "run", "http://127.0.0.1:9")
    assert (
        nobody.returncode,
        "Worker-2 at http://127.0.0.1:9: cannot connect: connection refused" in nobody.stderr,
    ) == (69, True)
    for arguments, told_why in (
        (("add", "run", "ws://127.0.0.1:9"), "ws://127.0.0.1:9"),
        (("add", "run", worker.address, "-p", "ws"), "no worker of this run speaks ws"),
        (("add", "run", "http://127.0.0.1:9", "--id", "Worker-1"), "'Worker-1'"),
        (("remove", "run", "Worker-7"), "no worker 'Worker-7'"),
    ):
        done = stq("workers", *arguments)
        assert (done.returncode, told_why in done.stderr) == (2, True), done.stderr
    assert [each["id"] for each in told(stq, "workers", "list", "run")] == ["Worker-1"]
    stq.open_gate()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk


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
