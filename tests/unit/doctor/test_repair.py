"""Runs damaged in every way: what could be read is exported, each question at most once, and nothing invented."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from contextlib import closing

import pytest

from streaming_queue.doctor.repair import Repaired, repair
from streaming_queue.errors import ConfigError, QueueError
from streaming_queue.messages import Failure, Question, Result
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import RunDirectory

ANSWERED, FAILED, LEFT = 300, 20, 100
TOTAL = ANSWERED + FAILED + LEFT


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The directory of a run that was stopped half way, as bytes by file name."""

    async def fill(directory):
        queue = await SQLiteQueue.open(directory.queue_path)
        await queue.put([Question(f"text {n} " + "x" * 100, f"q{n}", f"reference {n}") for n in range(TOTAL)])
        leases = await queue.lease(ANSWERED + FAILED)
        for lease in leases[:ANSWERED]:
            await queue.commit(lease, Result(f"answer to {lease.id}" + "y" * 50, "w", "inproc", 0.1))
        for lease in leases[ANSWERED:]:
            await queue.bury(lease, Failure("RemoteError", "no"))
        async with Projection(queue, directory.results_jsonl):
            pass
        await queue.close()

    directory = RunDirectory.create(tmp_path_factory.mktemp("runs") / "run", "inproc", {})
    asyncio.run(fill(directory))
    return {path.name: path.read_bytes() for path in directory.path.iterdir()}


@pytest.fixture
def run(original, tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    for name, content in original.items():
        (directory / name).write_bytes(content)
    return directory


def exported(run, target=None):
    """The figures, the rows by id and the questions by id; the run is as it was."""
    target = target or run.with_name("new")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    figures = repair(run, target)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert {path.name for path in target.iterdir()} == {"results.jsonl", "questions.jsonl"}
    rows = [json.loads(line) for line in (target / "results.jsonl").read_text().splitlines()]
    questions = [json.loads(line) for line in (target / "questions.jsonl").read_text().splitlines()]
    assert len(rows) == figures.answered + figures.failed
    assert len(questions) == figures.open + figures.unknown
    names = [row["question_id"] for row in rows] + [question.get("id") for question in questions]
    named = [name for name in names if name is not None]
    assert len(named) == len(set(named))
    for row in rows:
        if row["question_id"] and row["answer"]:
            assert row["answer"].startswith(f"answer to {row['question_id']}y")
    return figures, {row["question_id"]: row for row in rows}, {each.get("id"): each for each in questions}


def damage(path, first, last):
    """Overwrite pages."""
    content = bytearray(path.read_bytes())
    content[first * 4096 : last * 4096] = b"\xff" * len(content[first * 4096 : last * 4096])
    path.write_bytes(content)


def test_a_whole_run_is_exported_as_it_is(run, original):
    figures, rows, questions = exported(run)
    assert figures == Repaired(answered=ANSWERED, failed=FAILED, open=LEFT)
    assert figures.is_whole
    own = [json.loads(line) for line in original["results.jsonl"].splitlines()]
    assert rows == {row["question_id"]: row | {"cursor": None} for row in own}
    assert questions["q400"] == {"id": "q400", "question": "text 400 " + "x" * 100, "reference": "reference 400"}


def test_without_the_first_page(run):
    damage(run / "queue.db", 0, 1)
    assert exported(run)[0] == Repaired(answered=ANSWERED, failed=FAILED, open=LEFT)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_cut_off(run, share):
    path = run / "queue.db"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    figures, rows, _ = exported(run)
    assert (figures.answered, figures.failed) == (ANSWERED, FAILED), "each has its row in results.jsonl"
    assert set(rows) == {f"q{number}" for number in range(ANSWERED + FAILED)}
    assert figures.lost is None or figures.lost + figures.open + figures.unknown == LEFT


@pytest.mark.parametrize("seed", range(12))
def test_without_some_pages(run, seed):
    """An answer is lost only where neither the database nor the file of rows has it."""
    chance, path = random.Random(seed), run / "queue.db"
    pages = path.stat().st_size // 4096
    for _ in range(3):
        first = chance.randrange(pages)
        damage(path, first, first + 2)
    figures, rows, questions = exported(run)
    assert (figures.answered, figures.failed) == (ANSWERED, FAILED)
    assert not set(questions) & (set(rows) - {None})
    (run / "results.jsonl").unlink()
    alone, rows, _ = exported(run, run.with_name("alone"))
    assert alone.from_rows == 0
    assert not alone.is_whole or len(rows) == ANSWERED + FAILED


@pytest.mark.parametrize("seed", range(12))
def test_with_flipped_bits(run, seed):
    chance, path = random.Random(seed), run / "queue.db"
    content = bytearray(path.read_bytes())
    for _ in range(200):
        content[chance.randrange(4096, len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    figures = repair(run, run.with_name("new"))
    assert figures.answered >= ANSWERED * 0.9


def test_an_end_that_was_taken_back_is_no_end(run):
    async def replay():
        queue = await SQLiteQueue.open(run / "queue.db")
        assert await queue.replay() == FAILED
        await queue.close()

    asyncio.run(replay())
    figures, _, questions = exported(run)
    assert figures == Repaired(answered=ANSWERED, open=LEFT + FAILED)
    assert len(questions) == LEFT + FAILED


def test_what_stands_only_in_the_log_of_a_killed_process(run):
    with closing(sqlite3.connect(run / "queue.db", isolation_level=None)) as database:
        database.execute("PRAGMA wal_autocheckpoint=0")
        database.execute("UPDATE question SET state='done', number=999, settled_at=1.0 WHERE qid='q400'")
        body = '{"answer":"late","worker":"w","protocol":"p","response_time_s":1.0}'
        database.execute("INSERT INTO result SELECT seq, 1, 1, 1.0, ? FROM question WHERE qid='q400'", (body,))
        log = run / "queue.db-wal"
        kept = (run / "queue.db").read_bytes(), log.read_bytes()
    (run / "queue.db").write_bytes(kept[0])
    log.write_bytes(kept[1])
    target = run.with_name("new")
    assert repair(run, target).answered == ANSWERED + 1
    assert '"answer":"late"' in (target / "results.jsonl").read_text()


def test_a_directory_without_a_queue(tmp_path):
    with pytest.raises(ConfigError, match=r"it has no queue\.db"):
        repair(tmp_path, tmp_path / "new")


def test_a_directory_that_has_files(run):
    with pytest.raises(ConfigError, match="is not empty"):
        repair(run, run)


def test_a_queue_in_use(run):
    async def at_work():
        queue = await SQLiteQueue.open(run / "queue.db")
        with pytest.raises(ConfigError, match="in use by process"):
            await asyncio.to_thread(repair, run, run.with_name("new"))
        await queue.close()

    asyncio.run(at_work())


def test_the_database_of_another_program(run):
    (run / "queue.db").unlink()
    with closing(sqlite3.connect(run / "queue.db")) as database:
        database.execute("CREATE TABLE theirs(x)")
    with pytest.raises(QueueError, match="another program"):
        repair(run, run.with_name("new"))
