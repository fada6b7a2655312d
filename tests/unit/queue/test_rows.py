"""Reading records beside an owner, and while one comes or goes."""

from __future__ import annotations

import asyncio
import os

import pytest

from streaming_queue.errors import QueueError
from streaming_queue.messages import Question
from streaming_queue.queue import rows
from streaming_queue.queue.rows import RecordReader
from streaming_queue.queue.sqlite import SQLiteQueue


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PAGE", 4)
    return tmp_path / "queue.db"


@pytest.fixture
def answer(path, result):
    """`answer(first, last)` opens the queue and records the ends of these questions."""

    async def make(first, last):
        queue = await SQLiteQueue.open(path)
        await queue.put([Question(f"text {number}", f"q{number}") for number in range(first, last)])
        for lease in await queue.lease(last - first):
            await queue.commit(lease, result())
        return queue

    return make


def numbers(pages):
    return [outcome.number for page in pages for outcome in page]


async def test_records_are_read_in_pages_beside_the_owner(path, answer):
    queue = await answer(0, 10)
    reader = await asyncio.to_thread(RecordReader, path)
    assert reader.newest == 10
    pages = await asyncio.to_thread(lambda: list(reader.read(7)))
    assert [len(page) for page in pages] == [4, 3]
    assert numbers(await asyncio.to_thread(lambda: list(reader.read()))) == [8, 9, 10]
    await queue.close()


def test_what_is_not_there_yet_has_no_records(path):
    reader = RecordReader(path)
    assert list(reader.read()) == []
    path.touch()
    assert list(reader.read()) == []


def test_an_owner_that_comes_and_goes_between_two_pages_costs_no_row(path, answer):
    async def more(first, last):
        await (await answer(first, last)).close()

    asyncio.run(more(0, 10))
    pages = RecordReader(path).read()
    read = [next(pages), next(pages)]
    asyncio.run(more(10, 20))
    assert numbers([*read, *pages]) == list(range(1, 21))


def test_damage_that_stays_is_an_error(path, answer):
    async def make():
        await (await answer(0, 200)).close()

    asyncio.run(make())
    reader = RecordReader(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(QueueError, match="truncated"):
        list(reader.read())
