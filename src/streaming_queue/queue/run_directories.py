"""Runs in a directory: `runs.db` has their facts, and `runs/NAME/queue.db` the questions and rows of each."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import orjson

from streaming_queue.errors import QueueError, disk_error
from streaming_queue.links import refuse_links
from streaming_queue.messages import Counts
from streaming_queue.queue.base import WorkQueue
from streaming_queue.queue.lock import OwnerLock, refuse_network_file_system
from streaming_queue.queue.run_store import RunFacts, RunStore, check_name
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.queue.sqlite_schema import PRAGMAS, storage_error
from streaming_queue.queue.sqlite_writer import OnFull

T = TypeVar("T")

INDEX_FILE = "runs.db"
FOLDER = "runs"
APPLICATION_ID = 0x53545152

_SCHEMA = f"""
PRAGMA journal_mode=WAL;
{PRAGMAS}
CREATE TABLE IF NOT EXISTS run(
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    facts TEXT NOT NULL             -- JSON of `RunFacts`
);
PRAGMA application_id={APPLICATION_ID};
"""


class DirectoryRunStore(RunStore):
    """The runs in the directory `path`, which one process owns. Made by `open_directory`.

    Settings of the queues: see `SQLiteQueue.open`.
    """

    def __init__(
        self, path: Path, *, lease_s: float = 60.0, max_open: int | None = None, full_s: float = 0.0, on_full: OnFull
    ) -> None:
        self.path = path
        self._open_queue: Callable[[Path], Any] = lambda database: SQLiteQueue.open(
            database, lease_s=lease_s, max_open=max_open, full_s=full_s, on_full=on_full
        )
        self._index = path / INDEX_FILE
        self._lock = OwnerLock(self._index)
        self._thread = ThreadPoolExecutor(1, "runs.db")
        self._db: sqlite3.Connection

    @classmethod
    async def open_directory(
        cls,
        path: str | os.PathLike[str],
        *,
        lease_s: float = 60.0,
        max_open: int | None = None,
        full_s: float = 0.0,
        on_full: OnFull = lambda _: None,
    ) -> DirectoryRunStore:
        """Open the directory, or make it.

        Raises:
            QueueInUseError: another process owns it; its pid is named.
            QueueError: it cannot be made or read, or is on a network file system.
        """
        store = cls(Path(path), lease_s=lease_s, max_open=max_open, full_s=full_s, on_full=on_full)
        await store._in_thread(store._start)
        return store

    def _start(self) -> None:
        try:
            (self.path / FOLDER).mkdir(parents=True, exist_ok=True)
            self.path = self.path.resolve()
        except OSError as error:
            raise disk_error(self.path, error) or QueueError(
                f"{self.path}: cannot be made: {error.strerror}"
            ) from error
        refuse_network_file_system(self.path)
        refuse_links([self._index, self.path / FOLDER], QueueError)
        self._lock.acquire()
        try:
            self._db = sqlite3.connect(self._index, isolation_level=None, check_same_thread=True)
            found = self._db.execute("PRAGMA application_id").fetchone()[0]
            if found not in (0, APPLICATION_ID):
                raise QueueError(f"{self._index} is the database of another program; name another directory")
            self._db.executescript(_SCHEMA)
        except BaseException as error:
            self._lock.release(clean=False)
            if isinstance(error, sqlite3.Error):
                raise storage_error(self._index, error) from error
            raise

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do work on the index in its thread, one after the other. A cancelled call takes effect."""
        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
        except sqlite3.Error as error:
            raise storage_error(self._index, error) from error

    async def all(self) -> list[RunFacts]:
        """See RunStore."""
        rows = await self._in_thread(lambda: self._db.execute("SELECT facts FROM run ORDER BY place").fetchall())
        return [_decoded(text) for (text,) in rows]

    async def save(self, facts: RunFacts) -> None:
        """See RunStore."""
        text = orjson.dumps(asdict(facts)).decode()
        sql = "INSERT INTO run(name, facts) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET facts=?2"
        await self._in_thread(lambda: self._db.execute(sql, (facts.name, text)))

    async def open(self, name: str) -> WorkQueue:
        """See RunStore."""
        folder = self._folder(name)
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        queue: WorkQueue = await self._open_queue(folder / "queue.db")
        return queue

    async def put_away(self, name: str, queue: WorkQueue) -> None:
        """See RunStore."""
        del name
        await queue.close()

    async def remove(self, name: str) -> None:
        """See RunStore. The files go first, so that a run whose removal is cut off can be removed again."""

        def work() -> None:
            folder = self._folder(name)
            refuse_links([folder], QueueError)
            if folder.exists():
                shutil.rmtree(folder)
            self._db.execute("DELETE FROM run WHERE name = ?", (name,))

        await self._in_thread(work)

    def _folder(self, name: str) -> Path:
        return self.path / FOLDER / check_name(name)

    async def close(self) -> None:
        """See RunStore."""

        def work() -> None:
            with closing(self._db):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._lock.release(clean=True)

        await self._in_thread(work)
        self._thread.shutdown(wait=False)


def _decoded(text: str) -> RunFacts:
    facts = orjson.loads(text)
    counts = facts["counts"]
    return RunFacts(**facts | {"counts": None if counts is None else Counts(**counts)})
