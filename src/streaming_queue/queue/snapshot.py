"""The record of a queue that nobody runs, read without changing it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson

from streaming_queue.errors import QueueError
from streaming_queue.links import refuse_links
from streaming_queue.messages import Counts, Outcome
from streaming_queue.queue.base import Attempt, Record
from streaming_queue.queue.inspection import is_empty, is_large_with_log, reading
from streaming_queue.queue.lock import owner_of
from streaming_queue.queue.sqlite_reading import read_dead, read_dead_letter, read_history, read_reasons
from streaming_queue.queue.sqlite_schema import files_of, storage_error
from streaming_queue.queue.sqlite_state import Tally, read_tally

T = TypeVar("T")


class Snapshot(Record):
    """The database at `path` as its last owner left it; made by `open`. Its calls are made one after another.

    Every call raises QueueError: the database is damaged or cannot be read, or somebody has opened it meanwhile.
    """

    def __init__(self, path: Path, database: sqlite3.Connection | None) -> None:
        self.path = path
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Self]:
        """Open the record at `path`; where there is no file it is empty.

        Raises:
            QueueError: it is damaged, foreign or of another version, cannot be read, or its last owner was killed and
                left more behind than can be looked at without repairing it.
        """
        stack = ExitStack()
        try:
            yield cls(path, await asyncio.to_thread(cls._translated, path, lambda: _enter(stack, path)))
        finally:
            await asyncio.to_thread(stack.close)

    @staticmethod
    def _translated(path: Path, read: Callable[[], T]) -> T:
        try:
            return read()
        except (sqlite3.Error, QueueError) as error:
            if owner := owner_of(path):
                raise QueueError(f"{path} was just opened by {owner}: try again", retryable=True) from error
            if isinstance(error, QueueError):
                raise
            raise storage_error(path, error) from error

    async def _read(self, read: Callable[[sqlite3.Connection], T], empty: T) -> T:
        database = self._database
        return (
            empty if database is None else await asyncio.to_thread(self._translated, self.path, lambda: read(database))
        )

    async def _tally(self) -> Tally:
        return await self._read(read_tally, Tally())

    async def bookmark(self) -> dict[str, Any] | None:
        """See Record."""
        mark = (await self._tally()).bookmark
        return None if mark is None else orjson.loads(mark)

    async def counts(self) -> Counts:
        """See Record."""
        return (await self._tally()).counts

    async def dead(self, limit: int = 1000, *, after: int = 0, failure_type: str | None = None) -> list[Outcome]:
        """See Record."""
        return await self._read(lambda database: read_dead(database, after, limit, failure_type), [])

    async def dead_letter(self, question_id: str) -> Outcome | None:
        """See Record."""
        return await self._read(lambda database: read_dead_letter(database, question_id), None)

    async def reasons(self) -> dict[str, int]:
        """See Record."""
        return await self._read(read_reasons, {})

    async def attempts(self, question_id: str) -> list[Attempt]:
        """See Record."""
        return await self._read(lambda database: read_history(database, question_id), [])

    async def stats(self) -> dict[str, int]:
        """See Record."""
        return (await self._tally()).stats


def _enter(stack: ExitStack, path: Path) -> sqlite3.Connection | None:
    refuse_links(files_of(path), QueueError)
    if not path.exists():
        return None
    if is_large_with_log(path):
        raise QueueError(
            f"{path}: its last owner was killed, and it is too large to be copied to look at it; "
            f"`stq resume {path.parent}` repairs it and goes on"
        )
    database = stack.enter_context(reading(path.resolve()))
    return None if is_empty(database) else database
