"""Readers of rows, killed with or without the run: what they keep is in the end what the database keeps."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from e2e.waiting import until

from streaming_queue.exit_codes import ExitCode
from streaming_queue.queue.lock import find_owner

EXAMPLE = Path(__file__).parents[2] / "examples" / "consume_rows.py"
FEW, MANY = (2, 150), (25, 3000)
"""Kills and questions."""
_STORED = """
SELECT q.qid, CASE q.state WHEN 'done' THEN 'success' ELSE 'failed' END, r.answer
FROM question q LEFT JOIN result r ON r.seq = q.seq WHERE q.state IN ('done', 'dead')
"""


@pytest.fixture
def consumer(stq):
    """`consumer()` starts the example."""

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, EXAMPLE, "run", "table.db"], cwd=stq.directory, env=stq.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        stq.started.append(process)
        return process

    return start


def table(stq) -> set[tuple[str, str, str | None]]:
    with closing(sqlite3.connect(stq.directory / "table.db")) as database:
        return set(database.execute("SELECT question_id, status, answer FROM answer").fetchall())


def position(stq) -> str:
    """The cursor that the consumer has stored."""
    with closing(sqlite3.connect(stq.directory / "table.db")) as database:
        if not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'position'").fetchone():
            return ""
        return next(iter(database.execute("SELECT cursor FROM position").fetchall()), ("",))[0]


def recorded(stq) -> set[tuple[str, str, str | None]]:
    with closing(sqlite3.connect(stq.directory / "run" / "queue.db")) as database:
        return set(database.execute(_STORED).fetchall())


@pytest.mark.parametrize("size", [FEW, pytest.param(MANY, marks=[pytest.mark.faults, pytest.mark.timeout(900)])])
def test_a_consumer_that_is_killed_with_the_run_at_any_moment_ends_with_the_table_of_the_database(
    stq, consumer, size
) -> None:
    (kills, count), chance = size, random.Random(11)
    run = ["run", "-q", str(stq.questions(count)), "-p", "inproc", "-o", "run", "-w", "1", "-c", "16"]
    settings = ["-s", "mock.latency_ms=50", "-s", "scheduler.max_attempts=1"]
    failing = ["-s", "mock.failure_rate=0.1"]
    for kill in range(kills):
        process = stq.start(*run, *settings, *failing)
        until(lambda: _is_owned(stq))
        run = ["resume", "run"]
        reader = consumer()
        before = position(stq)
        until(lambda before=before, process=process: position(stq) != before or process.poll() is not None)
        time.sleep(chance.uniform(0.0, 0.3))
        victims = [process, reader][: 1 + kill % 2]
        chance.shuffle(victims)
        for victim in victims:
            victim.kill()
        process.communicate(timeout=60)
        _, talk = reader.communicate(timeout=60)
        assert reader.returncode in {-signal.SIGKILL, ExitCode.STOPPED, ExitCode.OK}, talk
        reason = ("--id", next(iter(sorted(name for name, state, _ in recorded(stq) if state == "failed")), "q0"))
        assert stq("dlq", "purge", "run", *reason, "--yes").returncode in {ExitCode.OK, ExitCode.USAGE}
        assert stq("dlq", "replay", "run").returncode == ExitCode.OK
    done = stq(*run, *settings, "-s", "mock.failure_rate=0.02", "-c", "64")
    assert done.returncode in {ExitCode.OK, ExitCode.SOME_FAILED}, done.stderr
    assert stq("dlq", "replay", "run").returncode == ExitCode.OK
    done = stq("resume", "run", "-s", "mock.failure_rate=0")
    assert done.returncode == ExitCode.OK, done.stderr
    last = consumer()
    _, talk = last.communicate(timeout=60)
    assert last.returncode == ExitCode.OK, talk
    assert table(stq) == recorded(stq)
    assert {state for _, state, _ in table(stq)} == {"success"}


def rows_of(output: str) -> list[dict]:
    return [row for row in map(json.loads, output.splitlines()) if row.get("type") != "summary"]


def test_the_reader_of_json_gets_after_a_kill_every_row_that_it_had_not_read(stq) -> None:
    """The file of rows runs ahead of the reader, so a resume without a cursor leaves out what it holds."""
    process = stq.start(
        "run", "-q", stq.questions(3000), "-p", "inproc", "-o", "run", "-s", "mock.latency_ms=0", "--json"
    )
    read = [json.loads(process.stdout.readline()) for _ in range(5)]
    until(lambda: (stq.directory / "run" / "results.jsonl").read_bytes().count(b"\n") == 3000)
    process.kill()
    process.communicate(timeout=60)
    done = stq("resume", "run", "--json", "--after", read[-1]["cursor"])
    assert done.returncode == ExitCode.OK, done.stderr
    rest = rows_of(done.stdout)
    assert len({row["cursor"] for row in read + rest}) == len(read) + len(rest) == 3000
    assert {row["question_id"] for row in read + rest} == {row["question_id"] for row in stq.rows()}
    again = stq("resume", "run", "--json", "--after", "")
    assert [row["cursor"] for row in rows_of(again.stdout)] == [row["cursor"] for row in stq.rows()]
    foreign = stq("resume", "run", "--json", "--after", "00000000-5")
    assert foreign.returncode == ExitCode.USAGE
    assert "another run" in foreign.stderr
    assert stq.manifest()["state"] == "done"


def test_the_follower_of_a_run_says_that_it_was_killed(stq, held_worker) -> None:
    served = held_worker(free=40, protocol="http")
    endpoints = f"qa.worker.endpoints=[{served.address}]"
    process = stq.start("run", "-q", stq.questions(100), "-p", "http", "-o", "run", "-c", "4", "-s", endpoints)
    until((stq.directory / "run" / "queue.db").exists)
    follower = stq.start("results", "run", "--follow")
    rows = [json.loads(follower.stdout.readline()) for _ in range(40)]
    process.kill()
    process.communicate(timeout=60)
    rest, talk = follower.communicate(timeout=60)
    assert (follower.returncode, rest) == (ExitCode.STOPPED, "")
    assert "the run was killed; go on with: stq resume run" in talk

    again = stq.start("resume", "run")
    until(lambda: _is_owned(stq))
    follower = stq.start("results", "run", "--after", rows[-1]["cursor"], "--follow")
    stq.open_gate()
    rest, talk = follower.communicate(timeout=60)
    assert follower.returncode == ExitCode.OK, talk
    names = [row["question_id"] for row in rows] + [row["question_id"] for row in rows_of(rest)]
    assert sorted(names) == sorted(row["question_id"] for row in stq.rows())
    assert len(names) == 100
    assert again.wait(60) == 0


def _is_owned(stq) -> bool:
    return find_owner(stq.directory / "run" / "queue.db") is not None


def test_only_questions_that_were_sent_count_as_asked_again(stq, history, held_worker) -> None:
    """At the kill four questions are at the agent, and more leases are taken ahead of them."""
    served = held_worker("-s", "qa.worker.concurrency=4", free=40, protocol="http")
    arguments = ["run", "-q", str(stq.questions(100)), "-p", "http", "-o", "run", "-c", "4"]
    arguments += ["-s", f"qa.worker.endpoints=[{served.address}]"]
    process = stq.start(*arguments)
    until(lambda: history.look() >= 40 and _in_flight(stq) == 4)
    process.kill()
    process.communicate(timeout=60)
    stq.open_gate()
    done = stq("resume", "run")
    figures = history.check(done.returncode, count=100)
    assert figures["re_executions"] == 4
    assert figures["leases_taken_ahead"] > 0


def _in_flight(stq) -> int:
    with closing(sqlite3.connect(f"file:{stq.directory}/run/queue.db?mode=ro", uri=True)) as database:
        return len(json.loads(database.execute("SELECT in_flight FROM meta").fetchone()[0]))
