"""A look into the thread that owns the database, for all tests of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from streaming_queue.queue.base import WorkQueue
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.queue.sqlite_store import Store

T = TypeVar("T")


async def in_writer(queue: SQLiteQueue, work: Callable[[Store], T]) -> T:
    """Run `work` in the queue's own thread."""
    return await queue._call(work)


async def handed_over(queue: WorkQueue) -> None:
    """Wait until the queue has taken in all calls that were made before."""
    await asyncio.sleep(0)
    await queue.results(0, 0)
