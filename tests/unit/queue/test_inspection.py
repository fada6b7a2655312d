from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from streaming_queue.errors import QueueError
from streaming_queue.messages import Counts, Failure, Question, Result
from streaming_queue.queue import inspection
from streaming_queue.queue.inspection import Inspection, inspect
from streaming_queue.queue.sqlite import SQLiteQueue

WORK = """
import asyncio, sys
from streaming_queue.messages import Question
from streaming_queue.queue.sqlite import SQLiteQueue

async def main():
    queue = await SQLiteQueue.open(sys.argv[1])
    await queue.put([Question("x" * 200, f"q{n}") for n in range(200)], bookmark={"lines": 200})
    await queue.lease(3)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path):
    """A closed queue: three questions, one answered, one failed, one open."""
    path = tmp_path / "run" / "queue.db"
    path.parent.mkdir()

    async def make():
        queue = await SQLiteQueue.open(path)
        await queue.put([Question("x" * 3000, f"q{n}") for n in range(3)], bookmark={"lines": 3, "complete": True})
        first, second = await queue.lease(2)
        await queue.commit(first, Result("answer", "w", "inproc", 0.1))
        await queue.bury(second, Failure("RemoteError", "no"))
        await queue.close()

    asyncio.run(make())
    return path


@pytest.fixture
def owner(path):
    """A process that has a queue open at `path`, with 200 questions more."""
    command = [sys.executable, "-c", WORK, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def state(folder):
    """All that a look could change: names, contents, times and modes."""
    return {
        entry.name: (entry.read_bytes(), entry.stat().st_mtime_ns, entry.stat().st_mode)
        for entry in [folder, *folder.iterdir()]
        if entry.is_file()
    } | {"": folder.stat().st_mtime_ns}


def test_a_closed_queue(path):
    before = state(path.parent)
    assert inspect(path) == Inspection(None, False, Counts(1, 0, 1, 1), True, {"lines": 3, "complete": True})
    assert state(path.parent) == before


def test_a_queue_whose_owner_was_killed_is_looked_at_with_its_log(path, owner):
    owner.kill()
    owner.wait()
    before = state(path.parent)
    assert "queue.db-wal" in before
    found = inspect(path)
    assert (found.owner, found.unclean, found.whole) == (None, True, True)
    assert found.counts == Counts(198, 3, 1, 1)
    assert found.bookmark == {"lines": 200}
    assert state(path.parent) == before


def test_a_queue_in_use_is_read_beside_its_owner(path, owner):
    found = inspect(path)
    assert (found.owner, found.unclean, found.whole) == (f"process {owner.pid}", False, False)
    assert found.counts == Counts(198, 3, 1, 1)
    assert {entry.name for entry in path.parent.iterdir()} == {
        "queue.db",
        "queue.db-wal",
        "queue.db-shm",
        "queue.db.lock",
    }


def test_a_large_one_with_a_log_is_not_copied(path, owner, monkeypatch):
    owner.kill()
    owner.wait()
    monkeypatch.setattr(inspection, "MOST_COPIED_BYTES", 1)
    assert inspect(path) == Inspection(unclean=True)


def test_a_check_that_ran_out_of_time_calls_nothing_whole(path, monkeypatch):
    monkeypatch.setattr(inspection, "quick_check", lambda *_: False)
    assert inspect(path) == Inspection(None, False, Counts(1, 0, 1, 1), False, {"lines": 3, "complete": True})


def test_there_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "queue.db")
    assert list(tmp_path.iterdir()) == []


def test_an_owner_stopped_before_it_made_the_tables(tmp_path):
    path = tmp_path / "queue.db"
    path.touch()
    assert inspect(path).counts == Counts()


def test_a_name_that_a_url_would_misread(path):
    odd = path.parent.rename(path.parent.with_name("100%?#run")) / "queue.db"
    assert inspect(odd).counts.done == 1


@pytest.mark.parametrize("content", [b"not a database\n", b"SQLite format 3\0", b"x" * 5000])
def test_no_database(path, content):
    path.write_bytes(content)
    before = state(path.parent)
    with pytest.raises(QueueError, match=f"{path} is damaged or no queue database"):
        inspect(path)
    assert state(path.parent) == before


def test_a_truncated_one(path):
    os.truncate(path, path.stat().st_size - 4096)
    with pytest.raises(QueueError, match=r"truncated: \d+ of \d+ bytes"):
        inspect(path)


def trees(path, name="%"):
    """The offset of the root page of every table and index (called like `name`), the schema's own aside."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        roots = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE rootpage AND name LIKE ?", (name,)
        ).fetchall()
        size = database.execute("PRAGMA page_size").fetchone()[0]
    return [(root - 1) * size for (root,) in roots]


def spoil(path, start):
    """Flip every bit of a page's header."""
    with path.open("r+b") as file:
        file.seek(start)
        header = file.read(12)
        file.seek(start)
        file.write(bytes(byte ^ 0xFF for byte in header))


def test_flipped_bits(path):
    starts = trees(path)
    assert len(starts) >= 10
    for start in starts:
        spoil(path, start)
        with pytest.raises(QueueError, match=f"{path} is damaged"):
            inspect(path)
        spoil(path, start)
    assert inspect(path).whole


def test_flipped_bits_below_a_log(path, owner):
    """The log holds the newest of some pages, but not of the tables that the killed process did not write to."""
    owner.kill()
    owner.wait()
    spoil(path, trees(path, "result")[0])
    with pytest.raises(QueueError, match=f"{path} is damaged"):
        inspect(path)


def test_figures_that_are_gone(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("DELETE FROM meta")
        database.commit()
    with pytest.raises(QueueError, match="damaged"):
        inspect(path)


def test_another_release_and_another_program(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=7")
    with pytest.raises(QueueError, match="another release"):
        inspect(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs(x)")
    with pytest.raises(QueueError, match="another program"):
        inspect(path)


def test_one_that_is_opened_meanwhile_is_not_called_damaged(path, monkeypatch):
    owners = iter([None, "process 1", "process 1"])
    monkeypatch.setattr(inspection, "owner_of", lambda _: next(owners))
    looked = []

    def look(path, owner):
        looked.append(owner)
        if owner is None:
            raise QueueError("damaged")
        return Inspection(owner)

    monkeypatch.setattr(inspection, "_inspect", look)
    assert inspect(path) == Inspection("process 1")
    assert looked == [None, "process 1"]


def test_an_unreadable_lock_file_raises_queue_error(path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied", "queue.db.lock")

    monkeypatch.setattr(inspection, "owner_of", refuse)
    with pytest.raises(QueueError, match=r"cannot be read: Permission denied \(queue.db.lock\)"):
        inspect(path)


def test_a_bookmark_that_is_none(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("UPDATE meta SET bookmark=?", (json.dumps({"lines": 1})[:-1],))
        database.commit()
    with pytest.raises(QueueError, match="damaged"):
        inspect(path)
