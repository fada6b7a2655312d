"""The records of a run's queue for readers in other processes; they change no file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from streaming_queue.cursor import read_cursor
from streaming_queue.errors import QueueError
from streaming_queue.links import refuse_links
from streaming_queue.messages import Outcome
from streaming_queue.queue.inspection import open_reader
from streaming_queue.queue.lock import owner_of
from streaming_queue.queue.sqlite_reading import read_log_name, read_records
from streaming_queue.queue.sqlite_schema import files_of, log_of, storage_error
from streaming_queue.queue.sqlite_state import read_tally

PAGE = 200


class RecordReader:
    """Reads the records of the database at `path` in order, while its owner works, ends or begins. Blocks.

    `after` is the number of the newest record that was read, `newest` that of the newest record in the database.
    Memory is bounded by a page.
    """

    def __init__(self, path: Path, cursor: str = "") -> None:
        """Begin after `cursor`; empty text is the beginning.

        Raises:
            ConfigError: the cursor is not from this database.
            QueueError: the database is damaged, foreign or unreadable.
        """
        self._path = path
        self.after = self.newest = 0
        log = self._look() if path.exists() else ""
        self.after = read_cursor(cursor, log, self.newest, path.parent)

    def _look(self) -> str:
        """Set `newest`; return the name of the log."""
        while True:
            state = self._state()
            try:
                with self._open(state) as database:
                    if database is None:
                        return ""
                    self.newest = read_tally(database).last_number
                    return read_log_name(database)
            except (sqlite3.Error, QueueError) as error:
                self._raise_unless_changed(state, error)

    def read(self, until: int | None = None) -> Iterator[list[Outcome]]:
        """The records after `after`, up to the number `until` or to the newest one, in pages.

        Raises:
            QueueError: the database is damaged or unreadable.
        """
        again = self._path.exists()
        while again:
            again, state = False, self._state()
            try:
                with self._open(state) as database:
                    while database is not None and (page := self._page(database, until)):
                        # A database without an owner is read without locks. If it changed, the page may be half of it.
                        if again := state.owner is None and self._state() != state:
                            break
                        self.after = page[-1].number
                        yield page
            except (sqlite3.Error, QueueError) as error:
                self._raise_unless_changed(state, error)
                again = True

    def _page(self, database: sqlite3.Connection, until: int | None) -> list[Outcome]:
        page = read_records(database, self.after, PAGE)
        return page if until is None else [outcome for outcome in page if outcome.number <= until]

    def _state(self) -> _FileState:
        owner = owner_of(self._path)
        if owner is not None:
            return _FileState(owner)
        stats = (path.stat() for path in (self._path, log_of(self._path)) if path.exists())
        return _FileState(None, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))

    def _open(self, state: _FileState) -> AbstractContextManager[sqlite3.Connection | None]:
        refuse_links(files_of(self._path), QueueError)
        return open_reader(self._path.resolve(), state.owner)

    def _raise_unless_changed(self, state: _FileState, error: sqlite3.Error | QueueError) -> None:
        """Raise `error`, unless an owner came or went during the read: then the read can be repeated."""
        if self._state() == state:
            raise storage_error(self._path, error) if isinstance(error, sqlite3.Error) else error


class _FileState(NamedTuple):
    """The owner of a database. Without an owner also the times and sizes of its files, which nothing should change."""

    owner: str | None
    files: tuple[tuple[int, int], ...] = ()
