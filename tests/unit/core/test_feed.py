from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import until

from streaming_queue.config import Config
from streaming_queue.core.feed import Feed
from streaming_queue.messages import Counts, Result
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.telemetry.events import Event, IntakeFinished

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


class Stage:
    """A source of 40 questions that is read into a queue."""

    def __init__(self, queue: SQLiteQueue, source: Path, coordinator: dict[str, Any]) -> None:
        self.queue = queue
        self.events: list[Event] = []
        config = Config.of({"qa": {"coordinator": {"data_file": str(source), **coordinator}}})
        self.reading = Feed(config, queue, self.events.append)

    async def answer(self, count: int) -> None:
        for lease in await self.queue.lease(count):
            await self.queue.commit(lease, Result("yes", "W1", "test", 0.1))
            self.reading.make_room()

    async def until_open(self, count: int) -> Counts:
        async def is_so() -> bool:
            return (await self.queue.counts()).open == count

        await until(is_so)
        return await self.queue.counts()


@asynccontextmanager
async def stage(tmp_path: Path, **coordinator: Any) -> AsyncIterator[Stage]:
    source = tmp_path / "questions.txt"
    source.write_text("".join(f'{{"id": "q{n}", "question": "question {n}"}}\n' for n in range(40)))
    queue = await SQLiteQueue.open(tmp_path / "queue.db")
    try:
        yield Stage(queue, source, coordinator)
    finally:
        await queue.close()


async def test_it_reads_no_further_than_the_window_ahead_of_the_ends(tmp_path: Path) -> None:
    async with stage(tmp_path, window=10) as on:
        task = asyncio.create_task(on.reading.run())
        await on.until_open(10)
        await on.answer(4)  # less than a batch fits
        assert (await on.until_open(6)).total == 10
        await on.answer(1)
        assert (await on.until_open(10)).total == 15
        while not on.reading.done.is_set():
            assert (await on.queue.counts()).open <= 10
            await on.answer(1)
        await task
        assert (await on.queue.counts()).total == 40
        assert [event.questions for event in on.events if isinstance(event, IntakeFinished)] == [40]


async def test_a_window_of_one_lets_one_question_in_at_a_time(tmp_path: Path) -> None:
    async with stage(tmp_path, window=1) as on:
        task = asyncio.create_task(on.reading.run())
        for number in range(1, 41):
            assert (await on.until_open(1)).total == number
            await on.answer(1)
        await task
        assert on.reading.done.is_set()


async def test_without_a_window_all_is_read(tmp_path: Path) -> None:
    async with stage(tmp_path, window=None) as on:
        await on.reading.run()
        assert (await on.queue.counts()).open == 40


async def test_a_queue_that_is_full_already_gets_nothing_more(tmp_path: Path) -> None:
    for _ in range(2):
        async with stage(tmp_path, window=10) as on:
            task = asyncio.create_task(on.reading.run())
            assert (await on.until_open(10)).total == 10
            task.cancel()
            await asyncio.wait({task})
    async with stage(tmp_path, window=20) as on:
        task = asyncio.create_task(on.reading.run())
        assert (await on.until_open(20)).total == 20
        task.cancel()
        await asyncio.wait({task})
