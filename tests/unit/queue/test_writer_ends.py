"""The thread of the database dies, or stands still: its owner notices."""

from __future__ import annotations

import asyncio
import threading

import pytest
from unit.queue.writer import handed_over, in_writer

from streaming_queue.errors import QueueClosedError, QueueError, QueueStalledError
from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.messages import Question
from streaming_queue.queue import writer_watch
from streaming_queue.queue.sqlite import SQLiteQueue


def questions(count):
    return [Question(f"question {number}", f"q{number}") for number in range(count)]


class Crash(BaseException):
    """An error that no `except Exception` catches."""


def crash(*_):
    raise Crash


@pytest.mark.parametrize("place", ["next_change", "refresh", "end"])
async def test_any_error_of_the_thread_fails_pending_and_later_calls_at_once(tmp_path, result, place) -> None:
    queue = await SQLiteQueue.open(tmp_path / "queue.db")
    await queue.put(questions(2))
    (lease, _) = await queue.lease(2)
    waiting = asyncio.create_task(queue.lease(1, 300))
    await handed_over(queue)
    breaking = asyncio.create_task(in_writer(queue, lambda store: setattr(store, place, crash)))
    committing = asyncio.create_task(queue.commit(lease, result()))
    async with asyncio.timeout(20):
        ends = await asyncio.gather(waiting, breaking, committing, return_exceptions=True)
        assert isinstance(ends[0], QueueError)
        assert all(isinstance(end, QueueError) for end in ends[1:]) or place == "next_change"
        for call in (queue.counts, lambda: queue.put(questions(3)), lambda: queue.lease(1, 300)):
            with pytest.raises(QueueClosedError):
                await call()
        await queue.close()
    queue = await SQLiteQueue.open(tmp_path / "queue.db")
    assert (await queue.counts()).total == 2
    await queue.close()


async def test_an_error_while_it_opens_fails_the_opening(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("streaming_queue.queue.sqlite_state.connect", crash)
    async with asyncio.timeout(20):
        with pytest.raises(QueueError):
            await SQLiteQueue.open(tmp_path / "queue.db")


async def test_a_disk_that_does_not_answer_is_told_and_then_ends_the_queue(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(writer_watch, "LOOK_S", 0.005)
    queue = await SQLiteQueue.open(tmp_path / "queue.db")
    await queue.put(questions(1))
    gate = threading.Event()
    hanging = asyncio.create_task(in_writer(queue, lambda _: gate.wait(60)))
    await asyncio.sleep(0)
    later = asyncio.create_task(queue.lease(1, 300))
    async with asyncio.timeout(20):
        for pending in (hanging, later):
            with pytest.raises(QueueStalledError) as caught:
                await pending
        assert exit_code(caught.value) is ExitCode.STOPPED
        with pytest.raises(QueueStalledError):
            await queue.counts()
        await queue.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    gate.set()  # the thread works again: it gives the file free
    async with asyncio.timeout(20):
        while True:
            try:
                again = await SQLiteQueue.open(tmp_path / "queue.db")
                break
            except QueueError:
                await asyncio.sleep(0.01)
    assert (await again.counts()).total == 1
    await again.close()


async def test_a_long_operation_that_makes_progress_is_no_hang(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(writer_watch, "LOOK_S", 0.03)
    monkeypatch.setattr(writer_watch, "STALLED_LOOKS", 10)
    queue = await SQLiteQueue.open(tmp_path / "queue.db")
    count = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 6000000) SELECT max(x) FROM n"
    assert await in_writer(queue, lambda store: store.db.execute(count).fetchone()) == (6000000,)
    await queue.close()
