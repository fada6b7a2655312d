"""A full disk with a bound: calls wait for space, others go on."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from unit.comm.agents import until
from unit.queue.writer import in_writer

from streaming_queue.errors import DiskFullError, QueueError
from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.messages import Counts, Question
from streaming_queue.queue import full_disk
from streaming_queue.queue.sqlite import SQLiteQueue

BIG = [Question("x" * 1000, f"more {number}") for number in range(500)]


@pytest.fixture(autouse=True)
def quick_tries(monkeypatch):
    monkeypatch.setattr(full_disk, "RETRY_S", 0.02)


async def pages(queue, most):
    """Bound the database: SQLite then answers as it does on a full disk."""
    await in_writer(queue, lambda store: store.db.execute(f"PRAGMA max_page_count={most}").fetchone())


async def full_queue(path, full_s, events):
    queue = await SQLiteQueue.open(path, full_s=full_s, on_full=events.append)
    await queue.put([Question(f"question {number}", f"q{number}") for number in range(40)])
    leases = await queue.lease(20)
    await pages(queue, 20)
    return queue, leases


async def test_calls_that_write_wait_for_space_and_reads_go_on(tmp_path, result) -> None:
    events: list[bool] = []
    queue, leases = await full_queue(tmp_path / "queue.db", 60.0, events)
    putting = asyncio.create_task(queue.put(BIG, bookmark={"line": 540}))
    commits = [asyncio.create_task(queue.commit(lease, result("y" * 10_000))) for lease in leases]
    async with asyncio.timeout(20):
        await until(lambda: bool(events))
        assert await queue.lease(10, 0.1) == [], "no lease while the disk is full"
        counts = await queue.counts()
        assert len(await queue.results()) == counts.done < 20
        assert await queue.bookmark() is None
        assert not putting.done()
        await pages(queue, 1_000_000)
        assert (await putting).added == 500
        assert await asyncio.gather(*commits) == [True] * 20
        assert len(await queue.lease(5, 10)) == 5
    assert events == [True, False]
    assert await queue.counts() == Counts(ready=515, leased=5, done=20)
    await queue.close()


async def test_after_the_bound_they_fail_and_nothing_of_them_is_stored(tmp_path) -> None:
    events: list[bool] = []
    queue, _ = await full_queue(tmp_path / "queue.db", 0.1, events)
    async with asyncio.timeout(20):
        with pytest.raises(DiskFullError) as caught:
            await queue.put(BIG)
    assert exit_code(caught.value) is ExitCode.STOPPED
    assert events == [True]
    assert await queue.counts() == Counts(ready=20, leased=20)
    await queue.close()


@pytest.mark.parametrize("close", [False, True], ids=["an earlier bound", "a close"])
async def test_a_wait_ends_with(tmp_path, close) -> None:
    events: list[bool] = []
    queue, _ = await full_queue(tmp_path / "queue.db", 600.0, events)
    putting = asyncio.create_task(queue.put(BIG))
    async with asyncio.timeout(20):
        await until(lambda: bool(events))
        if close:
            await queue.close()
        else:
            queue.end_waits(0.05)
        with pytest.raises(QueueError):
            await putting
    await queue.close()


@pytest.mark.parametrize("code", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_CORRUPT"])
async def test_no_other_failure_waits(tmp_path, code) -> None:
    events: list[bool] = []
    queue, _ = await full_queue(tmp_path / "queue.db", 600.0, events)

    def fail() -> None:
        error = sqlite3.OperationalError("injected")
        error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, code), code
        raise error

    async with asyncio.timeout(20):
        with pytest.raises(QueueError) as caught:
            await in_writer(queue, lambda store: setattr(store, "end", fail))
        assert exit_code(caught.value) is ExitCode.INTERNAL
    assert events == []
    await queue.close()
