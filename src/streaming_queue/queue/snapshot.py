"""The record of a stopped queue, read without a change to its files."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Self, TypeVar

from streaming_queue.errors import QueueError
from streaming_queue.links import refuse_links
from streaming_queue.queue.inspection import is_large_with_log, reading
from streaming_queue.queue.lock import owner_of
from streaming_queue.queue.sqlite_reading import SQLiteRecord
from streaming_queue.queue.sqlite_schema import files_of, storage_error
from streaming_queue.queue.sqlite_state import Tally, read_tally

T = TypeVar("T")


class Snapshot(SQLiteRecord):
    """The database at `path` as its last owner left it; made by `open`. Make one call at a time.

    Every call raises QueueError if the database is damaged or cannot be read, or if a process opened it meanwhile.
    """

    def __init__(self, path: Path, database: sqlite3.Connection | None) -> None:
        self.path = path
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Self]:
        """Open the record at `path`. It is empty if there is no file.

        Raises:
            QueueError: the database is damaged, foreign, of another version or unreadable, or a kill of its last owner
                left a log that is too large to be copied.
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
        if (database := self._database) is None:
            return empty
        return await asyncio.to_thread(self._translated, self.path, lambda: read(database))

    async def _tally(self) -> Tally:
        return await self._read(read_tally, Tally())


def _enter(stack: ExitStack, path: Path) -> sqlite3.Connection | None:
    refuse_links(files_of(path), QueueError)
    if not path.exists():
        return None
    if is_large_with_log(path):
        raise QueueError(
            f"{path}: its last owner was killed, and the file is too large to read from a copy; "
            f"`stq resume {path.parent}` repairs it and goes on"
        )
    return stack.enter_context(reading(path.resolve()))
