from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streaming_queue.doctor import run_directory as module
from streaming_queue.doctor.finding import Level
from streaming_queue.doctor.run_directory import run_directory
from streaming_queue.messages import Failure, Question, Result
from streaming_queue.queue.inspection import Inspection
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import RunDirectory


@pytest.fixture
def make(tmp_path):
    """`make(answered, failed, left)`: the directory of a run that ended with these figures."""

    async def fill(directory, answered, failed, left, complete):
        queue = await SQLiteQueue.open(directory.queue_path)
        total = answered + failed + left
        await queue.put([Question(f"text {n}", f"q{n}") for n in range(total)], bookmark={"complete": complete})
        leases = await queue.lease(answered + failed)
        for lease in leases[:answered]:
            await queue.commit(lease, Result("answer", "w", "inproc", 0.1))
        for lease in leases[answered:]:
            await queue.bury(lease, Failure("RemoteError", "no"))
        async with Projection(queue, directory.results_jsonl):
            pass
        await queue.close()

    def make(answered=0, failed=0, left=0, *, state="stopped", complete=True):
        directory = RunDirectory.create(tmp_path / "a run", "http", {})
        asyncio.run(fill(directory, answered, failed, left, complete))
        directory.update(state=state)
        return directory

    return make


def looked(directory):
    """The findings by check; to look has changed nothing."""

    def everything():
        entries = [entry for entry in directory.path.rglob("*") if entry.is_file()]
        return {entry: (entry.read_bytes(), entry.stat().st_mtime_ns) for entry in entries}

    before = everything()
    found = {finding.check: finding for finding in run_directory(directory.path)}
    assert everything() == before
    return found


def levels(found):
    return {check: str(finding.level) for check, finding in found.items()}


def test_a_finished_run(make):
    found = looked(make(3, state="done"))
    assert levels(found) == dict.fromkeys(["run.json", "queue.db", "owner", "results.jsonl", "next"], "ok")
    assert found["run.json"].seen.endswith("done, over http")
    assert found["queue.db"].seen == "3 answered, 0 failed, 0 open; all pages are whole"
    assert found["results.jsonl"].seen == "3 rows"
    assert found["next"].seen == "all are answered; nothing is left to do"


def test_a_finished_run_with_failures(make):
    directory = make(2, 1, state="done")
    found = looked(directory)
    assert found["next"].seen == "all have ended, 1 of them failed"
    remedy = f"`stq dlq list '{directory.path}'` says why, `stq dlq replay '{directory.path}'` puts them back"
    assert found["next"].remedy == remedy


def test_a_stopped_run_can_be_resumed(make):
    directory = make(2, 0, 5)
    found = looked(directory)
    assert set(levels(found).values()) == {"ok"}
    assert found["next"].seen == "questions left: 5"
    assert found["next"].remedy == f"stq resume '{directory.path}' goes on with them"


def test_a_source_that_was_not_read_to_its_end_is_more_work(make):
    found = looked(make(2, complete=False))
    assert found["next"].seen == "questions left: 0, and not all of the source was read"


def test_a_run_that_was_killed(make):
    found = looked(make(1, 0, 1, state="running"))
    assert found["run.json"].level is Level.WARNING
    assert "it was killed" in found["run.json"].seen
    assert found["run.json"].remedy.startswith("stq resume ")


def test_a_run_that_is_going_on(make, monkeypatch):
    directory = make(1, 0, 1, state="running")
    at_work = Inspection("process 7", counts=module.inspect(directory.queue_path).counts)
    monkeypatch.setattr(module, "inspect", lambda _: at_work)
    directory.results_jsonl.unlink()  # it lags behind
    found = looked(directory)
    assert set(levels(found).values()) == {"ok"}
    assert found["owner"].seen == "process 7 works on it"
    assert "so its pages were not checked" in found["queue.db"].seen
    assert f"`stq stop '{directory.path}'` ends it early" in found["next"].remedy


def test_a_database_too_large_to_look_into(make, monkeypatch):
    directory = make(1, 0, 1)
    monkeypatch.setattr(module, "inspect", lambda _: Inspection(unclean=True))
    found = looked(directory)
    assert found["queue.db"].level is Level.WARNING
    assert found["next"].seen == "questions left: not known how many"


def test_a_database_checked_in_part_after_a_kill(make, monkeypatch):
    directory = make(1)
    part = Inspection(None, unclean=True, counts=module.inspect(directory.queue_path).counts)
    monkeypatch.setattr(module, "inspect", lambda _: part)
    assert looked(directory)["queue.db"].seen.endswith(
        "the pages checked in a second are whole, the rest was not; its last owner was killed"
    )


@pytest.mark.parametrize("damage", ["truncated", "flipped", "replaced"])
def test_a_damaged_database(make, damage):
    directory = make(3)
    size = directory.queue_path.stat().st_size
    with directory.queue_path.open("r+b") as file:
        if damage == "truncated":
            file.truncate(size - 4096)
        elif damage == "flipped":
            file.seek(4096)
            file.write(b"\xff" * 64)
        else:
            file.truncate(0)
            file.write(b"<html>" * 100)
    found = looked(directory)
    assert levels(found) == {"run.json": "ok", "queue.db": "problem"}
    assert found["queue.db"].code == 2
    assert "damaged" in found["queue.db"].seen
    assert "--repair" in found["queue.db"].remedy


def test_a_database_that_is_gone(make):
    directory = make(3)
    directory.queue_path.unlink()
    found = looked(directory)
    assert (found["queue.db"].level, found["queue.db"].code) == (Level.PROBLEM, 2)
    assert "replace results.jsonl" in found["queue.db"].remedy


def test_a_run_that_was_stopped_before_its_database_was_made(make):
    directory = make()
    directory.queue_path.unlink()
    directory.results_jsonl.unlink()
    found = looked(directory)
    assert found["queue.db"].level is Level.WARNING
    assert found["queue.db"].remedy.startswith("stq resume ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no run.json"),
        ("", "not valid JSON"),
        ('{"format": 1, "run_id"', "not valid JSON"),
        ("[]", "states no format version"),
        ('{"format": 99}', "format 99 is newer"),
        ('{"format": 1}', "run_id, state, protocol is missing"),
    ],
)
def test_a_manifest_that_cannot_be_used(make, text, said):
    directory = make(2, 0, 1)
    if text is None:
        directory.manifest_path.unlink()
    else:
        directory.manifest_path.write_text(text)
    found = looked(directory)
    assert (found["run.json"].level, found["run.json"].code) == (Level.PROBLEM, 2)
    assert said in found["run.json"].seen
    assert "results.jsonl holds the rows so far" in found["run.json"].remedy
    assert found["queue.db"].seen.startswith("2 answered")  # the rest is reported all the same
    assert "next" not in found


def test_a_directory_of_something_else(tmp_path):
    found = {finding.check: finding for finding in run_directory(tmp_path)}
    assert found["run.json"].code == 2
    assert "stq run -o DIR" in found["run.json"].remedy
    assert "queue.db" not in found


def test_rows_that_are_missing(make):
    directory = make(3)
    lines = directory.results_jsonl.read_text().splitlines(keepends=True)
    directory.results_jsonl.write_text(lines[0] + lines[1][:-5])
    found = looked(directory)
    assert found["results.jsonl"].level is Level.WARNING
    assert found["results.jsonl"].seen == "1 rows, but 3 questions have ended"
    assert found["results.jsonl"].remedy.endswith("writes it anew from queue.db")


def test_rows_that_are_too_many_to_count(make, monkeypatch):
    directory = make(3)
    monkeypatch.setattr(module, "MOST_COUNTED_BYTES", 10)
    found = looked(directory)
    assert found["results.jsonl"].seen == "too large to count its rows; a resume checks it"
    directory.queue_path.unlink()
    assert looked(directory)["queue.db"].level is Level.PROBLEM


def test_a_relative_directory(make, monkeypatch):
    directory = make(1, 0, 1)
    monkeypatch.chdir(directory.path.parent)
    found = {finding.check: finding for finding in run_directory(Path(directory.path.name))}
    assert found["next"].remedy == "stq resume 'a run' goes on with them"
