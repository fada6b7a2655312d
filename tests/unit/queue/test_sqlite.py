"""What only the durable engine promises while it runs: groups, disk full, cancellation, closing."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from contextlib import closing

import pytest
from e2e import waiting
from unit.comm.agents import until
from unit.queue.writer import handed_over, in_writer

from streaming_queue.errors import DiskFullError, QueueClosedError, QueueError
from streaming_queue.messages import Counts, Question
from streaming_queue.queue import codec, sqlite_reading, sqlite_state
from streaming_queue.queue import sqlite as sqlite_module
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queue.db"


class Other:
    """Another program's connection to the same file."""

    def __init__(self, connection):
        self.connection = connection

    @classmethod
    async def connect(cls, path):
        return cls(
            await asyncio.to_thread(
                lambda: sqlite3.connect(path, uri=True, isolation_level=None, check_same_thread=False)
            )
        )

    async def execute(self, sql):
        return await asyncio.to_thread(lambda: self.connection.execute(sql).fetchall())

    async def close(self):
        await asyncio.to_thread(self.connection.close)


def questions(count, text="question"):
    return [Question(f"{text} {number}", f"q{number}") for number in range(count)]


async def test_settings_are_the_durable_ones(path):
    queue = await SQLiteQueue.open(path)
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint", "journal_size_limit")
    values = await in_writer(queue, lambda store: [store.db.execute(f"PRAGMA {name}").fetchone()[0] for name in names])
    assert values == ["wal", 2, 1, 5000, 1000, 64 * 1024 * 1024]
    await queue.close()


async def test_everything_is_there_after_a_clean_close(path, result, failure):
    queue = await SQLiteQueue.open(str(path))
    await queue.put(questions(6), bookmark={"line": 6})
    done, dead, leased, back, late = await queue.lease(5)
    await queue.commit(done, result())
    await queue.commit(done, result("again"))
    await queue.bury(dead, failure())
    queue.sent(leased)
    await queue.retry(back, 0, failure())
    await queue.release(late, failure=failure())
    before = [await queue.results(), await queue.dead(), await queue.attempts("q0"), await queue.bookmark()]
    await queue.close()
    assert await asyncio.to_thread(lambda: sorted(path.parent.glob("queue.db*"))) == [
        path,
        path.with_name("queue.db.lock"),
    ]
    assert await asyncio.to_thread(path.with_name("queue.db.lock").read_bytes) == b""

    queue = await SQLiteQueue.open(path)
    assert [await queue.results(), await queue.dead(), await queue.attempts("q0"), await queue.bookmark()] == before
    assert await queue.counts() == Counts(ready=4, done=1, dead=1)
    again = await queue.lease(10)
    assert [(lease.id, lease.attempt, lease.fence) for lease in again] == [
        ("q2", 1, 2),
        ("q3", 2, 2),
        ("q4", 1, 2),
        ("q5", 1, 1),
    ]
    for lease in again:
        queue.sent(lease)
    await queue.release(again[0])
    sends = {"re_executions": 3, "leases_taken_ahead": 0}
    assert await queue.stats() == sends | {"late_duplicates_rejected": 1, "losses": 1}
    assert [entry.outcome for entry in await queue.attempts("q2")] == ["lost", "released"]
    assert await queue.commit(leased, result("by the holder of before"))
    await queue.close()


async def test_waiting_counts_from_the_opening(path, clock):
    queue = await SQLiteQueue.open(path, clock=clock)
    clock.advance(-3600)
    await queue.put(questions(1))
    await queue.close()
    queue = await SQLiteQueue.open(path, clock=clock)
    clock.advance(2)
    (lease,) = await queue.lease(1)
    assert lease.waited_ms == pytest.approx(2000, abs=1)
    await queue.close()


async def test_a_delay_outlives_the_process_but_not_a_jump_of_the_clock(path, failure, monkeypatch):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(2))
    leases = await queue.lease(2)
    await queue.retry(leases[0], 0.4, failure())
    await queue.retry(leases[1], 50, failure())
    await queue.close()

    queue = await SQLiteQueue.open(path)
    assert await queue.counts() == Counts(ready=2)
    assert await queue.lease(2) == []
    assert [lease.id for lease in await asyncio.wait_for(queue.lease(2, 5), 5)] == ["q0"]
    await queue.close()

    class HourBack:
        @staticmethod
        def time() -> float:
            return real() - 3600

    real = sqlite_state.time.time
    monkeypatch.setattr(sqlite_state, "time", HourBack)
    queue = await SQLiteQueue.open(path)
    remaining = await in_writer(queue, lambda store: [due - store.clock() for due in store.delayed.values()])
    assert remaining == [pytest.approx(50, abs=1)]
    await queue.close()


async def test_a_full_disk_refuses_and_loses_nothing(path, result):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(40))
    leases = await queue.lease(20)
    # The limit on pages makes SQLite answer as it does when the disk has no space.
    await in_writer(queue, lambda store: store.db.execute("PRAGMA max_page_count=20").fetchone())
    with pytest.raises(DiskFullError, match=r"queue\.db: no space left"):
        await queue.put([Question("x" * 1000, f"more {number}") for number in range(500)], bookmark={"line": 540})
    assert await queue.counts() == Counts(ready=20, leased=20)
    assert await queue.bookmark() is None
    big = await asyncio.gather(*(queue.commit(lease, result("y" * 10_000)) for lease in leases), return_exceptions=True)
    refused = [lease for lease, end in zip(leases, big, strict=True) if end is not True]
    assert refused
    assert {type(end) for end in big if end is not True} == {DiskFullError}
    assert await queue.counts() == Counts(ready=20, leased=len(refused), done=20 - len(refused))

    await in_writer(queue, lambda store: store.db.execute("PRAGMA max_page_count=1000000").fetchone())
    assert all(await asyncio.gather(*(queue.commit(lease, result()) for lease in refused)))
    assert len(await queue.results()) == 20
    assert len(await queue.lease(100)) == 20
    assert (await queue.put(questions(41))).added == 1
    await queue.close()


async def test_a_lease_on_a_full_disk_raises_disk_full(path):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(1))

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
        raise error

    def break_claim(store):
        store.claim = full

    await in_writer(queue, break_claim)
    waiting = [asyncio.create_task(queue.lease(1, 20)) for _ in range(2)]
    for task in waiting:
        with pytest.raises(DiskFullError):
            await asyncio.wait_for(task, 5)
    await in_writer(queue, lambda store: delattr(store, "claim"))
    assert len(await queue.lease(1)) == 1
    await queue.close()


async def test_one_refused_job_does_not_fail_its_group(path, result):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(9))
    leases = await queue.lease(9)
    await in_writer(queue, lambda store: store.db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5000))
    ends = await asyncio.gather(
        *(queue.commit(lease, result("z" * (10_000 if lease.id == "q4" else 10))) for lease in leases),
        queue.put([Question("another")]),
        return_exceptions=True,
    )
    assert isinstance(ends[4], QueueError)
    assert [end for number, end in enumerate(ends[:9]) if number != 4] == [True] * 8
    assert ends[9].added == 1
    assert await queue.counts() == Counts(ready=1, leased=1, done=8)
    await queue.close()


async def test_texts_too_long_for_one_page_are_read_in_smaller_ones(path, result):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(30))
    for lease in await queue.lease(30):
        await queue.commit(lease, result("w" * 1000))
    await in_writer(queue, lambda store: store.db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000))
    assert [outcome.number for outcome in await queue.results()] == list(range(1, 31))
    await queue.close()


async def test_a_page_of_large_answers_ends_early_and_the_pages_have_all(path, result, tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "LARGE", 1000)
    monkeypatch.setattr(sqlite_reading, "PAGE_CHARACTERS", 20_000)
    queue = await SQLiteQueue.open(path)
    answers = [str(number) * (9000 if number % 2 else 10) for number in range(100)]
    await queue.put([Question(f"{number}?") for number in range(100)])
    async with Projection(queue, tmp_path / "results.jsonl"):
        leases = await queue.lease(100)
        await asyncio.gather(*(queue.commit(lease, result(text)) for lease, text in zip(leases, answers, strict=True)))
    pages, after = [], 0
    while page := await queue.results(after, 1000):
        pages.append([outcome.result.answer for outcome in page])
        after = page[-1].number
    assert [text for page in pages for text in page] == answers
    assert all(sum(map(len, page)) < 20_000 + 2 * 9000 for page in pages)
    assert len(pages) > 20
    await queue.close()
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_bytes().splitlines()]
    assert [row["answer"] for row in rows] == answers


async def test_a_foreign_transaction_delays_a_call_or_fails_it(path):
    queue = await SQLiteQueue.open(path)
    await in_writer(queue, lambda store: store.db.execute("PRAGMA busy_timeout=50"))
    other = await Other.connect(path)
    await other.execute("BEGIN IMMEDIATE")
    with pytest.raises(QueueError, match="locked") as caught:
        await queue.put(questions(1))
    assert caught.value.retryable
    await other.close()
    assert (await queue.put(questions(1))).added == 1
    await queue.close()


async def test_a_failed_disk_closes_the_queue(path, result):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(2))
    (lease, _) = await queue.lease(2)

    def broken() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
        raise error

    def break_end(store):
        store.end = broken

    waiting = asyncio.create_task(queue.lease(1, 30))
    await handed_over(queue)
    breaking = asyncio.create_task(in_writer(queue, break_end))
    for task in (breaking, waiting, asyncio.create_task(queue.commit(lease, result()))):
        with pytest.raises(QueueError, match=r"SQLITE_IOERR_FSYNC"):
            await asyncio.wait_for(task, 5)
    for call in (queue.counts, queue.results, lambda: queue.put(questions(3))):
        with pytest.raises(QueueClosedError, match="closed itself"):
            await call()
    await queue.close()
    queue = await SQLiteQueue.open(path)
    assert await queue.counts() == Counts(ready=2)
    await queue.close()


async def test_a_lease_outlives_a_commit_that_was_undone(path, clock, result):
    queue = await SQLiteQueue.open(path, clock=clock)
    await queue.put(questions(2))
    undone, other = await queue.lease(2)
    clock.advance(40)

    def break_end(store):
        def full() -> None:
            if store.db.in_transaction:
                del store.end
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
                raise error

        store.end = full

    await in_writer(queue, break_end)
    with pytest.raises(DiskFullError):
        await queue.commit(undone, result())
    clock.advance(30)  # the lease of the other ended; that of the undone commit began anew
    assert [lease.id for lease in await queue.lease(2)] == [other.id]
    assert await queue.commit(undone, result())
    await queue.close()


async def test_a_cancelled_commit_is_whole(path, result):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(60))
    leases = await queue.lease(60)
    tasks = [asyncio.create_task(queue.commit(lease, result(lease.id))) for lease in leases]
    for number, task in enumerate(tasks):
        if number % 7 == 0:
            await asyncio.sleep(0.0003)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await queue.commit(leases[0], result("again")) is False
    await queue.close()
    queue = await SQLiteQueue.open(path)
    outcomes = await queue.results()
    # A task that was cancelled before its first step never asked for anything.
    answers = [outcome.result.answer for outcome in outcomes]
    assert len(set(answers)) == len(answers)
    assert all(outcome.result.answer in (outcome.question.id, "again") for outcome in outcomes)
    counts = await queue.counts()
    assert (counts.done, counts.ready) == (len(outcomes), 60 - len(outcomes))
    await queue.close()


async def test_a_cancelled_commit_is_recorded(path, result):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(1))
    (lease,) = await queue.lease(1)
    loop, gate, stalls = asyncio.get_running_loop(), threading.Event(), asyncio.Event()

    def stall(_):
        loop.call_soon_threadsafe(stalls.set)
        return gate.wait(60)

    stalled = asyncio.create_task(in_writer(queue, stall))
    await stalls.wait()
    commit = asyncio.create_task(queue.commit(lease, result()))
    reading = asyncio.create_task(queue.results())
    await asyncio.sleep(0)  # both calls are made, and the second hands over the first
    commit.cancel()
    gate.set()
    assert await stalled
    with pytest.raises(asyncio.CancelledError):
        await commit
    assert len(await reading) == 1
    assert await queue.counts() == Counts(done=1)
    await queue.close()


async def test_close_settles_what_is_pending(path, result):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(50))
    leases = await queue.lease(50)
    commits = [asyncio.create_task(queue.commit(lease, result())) for lease in leases]
    await asyncio.sleep(0)
    await asyncio.gather(queue.close(), queue.close())
    assert await asyncio.gather(*commits) == [True] * 50
    queue = await SQLiteQueue.open(path)
    assert (await queue.counts()).done == 50
    await queue.close()


async def test_close_is_bounded(path, monkeypatch):
    monkeypatch.setattr(sqlite_module, "CLOSE_BOUND_S", 0.1)
    queue = await SQLiteQueue.open(path)
    gate = threading.Event()
    stalled = asyncio.create_task(in_writer(queue, lambda _: gate.wait(5)))
    await asyncio.sleep(0)
    with pytest.raises(QueueError, match="did not answer"):
        await queue.close()
    gate.set()
    await stalled
    await queue.close()


async def test_a_reader_does_not_disturb_and_is_not_disturbed(path, result):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(20))
    reader = await Other.connect(f"file:{path}?mode=ro")
    await reader.execute("PRAGMA query_only=ON")
    await reader.execute("BEGIN")
    assert await reader.execute("SELECT count(*) FROM question") == [(20,)]
    for lease in await queue.lease(20):
        await queue.commit(lease, result("seen"))
    assert await reader.execute("SELECT count(*) FROM result") == [(0,)]
    await asyncio.wait_for(queue.close(), 8)
    await reader.execute("COMMIT")
    assert await reader.execute("SELECT DISTINCT answer, worker FROM result") == [("seen", "Worker-1")]
    await reader.close()
    queue = await SQLiteQueue.open(path)
    assert (await queue.counts()).done == 20
    await queue.close()


async def test_a_queue_that_was_not_opened_says_so(path):
    queue = SQLiteQueue(path)
    with pytest.raises(QueueClosedError, match="not open"):
        await queue.counts()
    await queue.close()
    assert not await asyncio.to_thread(path.exists)


async def test_an_opening_that_is_cancelled_leaves_no_owner(path):
    opening = asyncio.create_task(SQLiteQueue.open(path))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)

    async def opens() -> bool:
        try:
            queue = await SQLiteQueue.open(path)
        except QueueError:
            return False
        await queue.close()
        return True

    await until(opens)


async def test_commits_that_come_one_by_one_share_transactions(path, result):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(400))
    leases = await queue.lease(400)
    ends = 0

    def watch(store):
        real = store.end

        def end() -> None:
            nonlocal ends
            ends += 1
            real()

        store.end = end

    await in_writer(queue, watch)

    async def slot(mine):
        for lease in mine:
            assert await queue.commit(lease, result())

    await asyncio.gather(*(slot(leases[start::32]) for start in range(32)))
    assert ends < 150
    await queue.close()


async def test_a_send_is_written_without_another_change_and_the_next_owner_knows_it(path):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(3))
    first, second, _ = await queue.lease(3)
    queue.sent(first)
    queue.sent(second)

    def written() -> bool:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute("SELECT in_flight FROM meta").fetchone() == ("[1,2]",)

    await asyncio.to_thread(waiting.until, written)
    await queue.close()
    again = await SQLiteQueue.open(path)
    for lease in await again.lease(3):
        again.sent(lease)
        await again.release(lease)
    stats = await again.stats()
    assert (stats["re_executions"], stats["leases_taken_ahead"]) == (2, 1)
    await again.close()


async def test_a_transaction_that_fails_loses_no_send(path):
    queue = await SQLiteQueue.open(path)
    await queue.put(questions(1))
    (lease,) = await queue.lease(1)
    await in_writer(queue, lambda store: store.db.execute("PRAGMA max_page_count=20").fetchone())
    queue.sent(lease)
    queue.sent(lease)
    with pytest.raises(DiskFullError):
        await queue.put([Question("x" * 1000, f"more {number}") for number in range(500)])
    await queue.release(lease)
    stats = await queue.stats()
    assert (stats["re_executions"], stats["leases_taken_ahead"]) == (1, 0)
    await queue.close()
