"""A queue without a process, read as its own process would read it, and left unchanged."""

from __future__ import annotations

import pytest

from streaming_queue.errors import QueueError
from streaming_queue.messages import Counts, Question
from streaming_queue.queue import inspection, snapshot
from streaming_queue.queue.base import STATS
from streaming_queue.queue.snapshot import Snapshot
from streaming_queue.queue.sqlite import SQLiteQueue


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queue.db"


async def everything(record):
    read = [record.bookmark(), record.counts(), record.dead(), record.reasons(), record.stats(), record.attempts("q0")]
    return [
        await each for each in (*read, record.dead_letter("q0"), record.dead(1, after=1, failure_type="ConnectError"))
    ]


async def fill(path, result, failure):
    queue = await SQLiteQueue.open(path)
    await queue.put([Question(f"question {n}", f"q{n}") for n in range(5)], bookmark={"complete": True})
    first, second, third, _ = await queue.lease(4)
    await queue.bury(first, failure())
    await queue.commit(second, result())
    await queue.bury(third, failure("AgentFailedError"))
    return queue


def content(path):
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


async def test_it_reads_what_the_queue_itself_reads_and_changes_nothing(path, result, failure):
    queue = await fill(path, result, failure)
    expected = await everything(queue)
    await queue.close()
    before = content(path)
    async with Snapshot.open(path) as record:
        assert await everything(record) == expected
    assert content(path) == before


async def test_a_queue_whose_owner_was_killed_is_read_with_its_log(path, tmp_path, result, failure):
    queue = await fill(path, result, failure)
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("queue.db", "queue.db-wal"):
        (killed / name).write_bytes((tmp_path / name).read_bytes())
    before = content(killed / "queue.db")
    async with Snapshot.open(killed / "queue.db") as record:
        assert await everything(record) == await everything(queue)
        assert (await record.counts()).leased == 1
    await queue.close()
    assert content(killed / "queue.db") == before


async def test_what_is_not_there_yet_is_empty(path):
    for make in (lambda: None, path.touch):
        make()
        async with Snapshot.open(path) as record:
            assert await everything(record) == [
                None, Counts(), [], {}, dict.fromkeys(STATS, 0), [], None, [],
            ]  # fmt: skip


async def test_a_file_that_is_not_a_database_raises_queue_error(path):
    path.write_bytes(b"not a database, whatever its name says" * 100)
    with pytest.raises(QueueError, match=r"queue\.db is damaged or no queue database"):
        async with Snapshot.open(path):
            pass


async def test_too_much_beside_a_log_is_not_copied(path, result, failure, monkeypatch):
    queue = await fill(path, result, failure)
    monkeypatch.setattr(inspection, "MOST_COPIED_BYTES", 10)
    monkeypatch.setattr(snapshot, "owner_of", lambda _: None)
    with pytest.raises(QueueError, match=r"too large to read from a copy.*stq resume"):
        async with Snapshot.open(path):
            pass
    await queue.close()


async def test_a_database_opened_meanwhile_raises_a_retryable_error(path, monkeypatch):
    path.write_bytes(b"half of a change" * 100)
    monkeypatch.setattr(snapshot, "owner_of", lambda _: "process 7")
    with pytest.raises(QueueError, match="just opened by process 7: try again"):
        async with Snapshot.open(path):
            pass
