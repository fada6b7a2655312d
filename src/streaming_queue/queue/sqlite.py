"""The durable queue: one SQLite file, one owner process, one writer thread."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeVar

from streaming_queue.cursor import read_cursor
from streaming_queue.errors import QueueClosedError, QueueError
from streaming_queue.messages import Failure, Outcome, PutReport, Question, Result, SourceChecks
from streaming_queue.queue.base import Lease, RunState, WorkQueue
from streaming_queue.queue.codec import encode_bookmark, encode_end, is_large
from streaming_queue.queue.sqlite_reading import SQLiteRecord, read_log_name, read_records, read_source_checks
from streaming_queue.queue.sqlite_state import Tally
from streaming_queue.queue.sqlite_store import Store
from streaming_queue.queue.sqlite_writer import OnFull, Reply, Writer
from streaming_queue.queue.writer_jobs import Commit, Stop, Take, WriterCall
from streaming_queue.queue.writer_watch import WriterWatch

T = TypeVar("T")

CLOSE_BOUND_S = 10.0
SENDS_DELAY_S = 0.25
"""Longest time before a send is written, if no other change takes it along."""
LONGEST_DELAY_S = 1e9


class SQLiteQueue(SQLiteRecord, WorkQueue):
    """A queue in the SQLite file `path`; made by `open`, used in the event loop that opened it.

    A lease lasts `lease_s` of `clock` (seconds, monotonic). `put` refuses a batch that would make more than `max_open`
    questions open. Every method raises DiskFullError (nothing of the call was stored, the queue works on) or another
    QueueError if the disk fails. After a failure that leaves the file in doubt, or the death of its thread, the queue
    closes itself, and later calls raise QueueClosedError. If the disk does not answer for a minute, pending and later
    calls raise QueueStalledError. A cancelled call may take effect, whole; leases that no caller received go back.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._writer: Writer | None = None
        self._closing: asyncio.Future[None] | None = None
        self._newest = Tally()
        self._sends: deque[int] = deque()
        self._sends_timer: asyncio.TimerHandle | None = None
        self._watch: WriterWatch | None = None

    @classmethod
    async def open(
        cls,
        path: str | PathLike[str],
        *,
        lease_s: float = 60.0,
        max_open: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        full_s: float = 0.0,
        on_full: OnFull = lambda _: None,
    ) -> Self:
        """Open or make the queue in `path`; its folder must exist. Leases of an earlier process are void.

        While the disk is full, calls that write wait for up to `full_s` seconds before they raise DiskFullError.
        `on_full(True)` reports the first such wait, `on_full(False)` that there is space again.

        Raises:
            QueueInUseError: another process owns the file; its pid is named.
            QueueError: it is damaged, foreign, of another version,
                on a network file system, or cannot be written; the text says which and what to do.
        """
        queue = cls(path)
        open_store = partial(Store, queue.path, queue._sends, lease_s=lease_s, max_open=max_open, clock=clock)
        loop = asyncio.get_running_loop()
        await queue._start(Writer(queue.path, open_store, loop, queue._receive, full_s=full_s, on_full=on_full))
        return queue

    async def _start(self, writer: Writer) -> None:
        self._writer = writer
        opened = writer.loop.create_future()
        self._writer.start(opened)
        self._watch = WriterWatch(writer, self.path)
        try:
            await opened
        except asyncio.CancelledError:
            self._writer.submit(Stop(None))
            self._watch.stop()
            raise
        except QueueError:
            self._writer = None
            self._watch.stop()
            raise

    def _receive(self, replies: Sequence[Reply], tally: Tally | None) -> None:
        if tally is not None:
            self._newest = tally
        for job, value, error in replies:
            if job.future is None:
                continue
            if job.future.done():
                if isinstance(job, Take) and value:
                    self._hand_back(value)
            elif error is not None:
                job.future.set_exception(error)
            else:
                job.future.set_result(value)

    def _running(self) -> Writer:
        if self._writer is None or self._closing is not None:
            raise QueueClosedError(f"the queue {self.path} is {'closed' if self._closing else 'not open'}")
        if self._writer.failed is not None:
            raise self._writer.closed_error()
        return self._writer

    async def _call(self, function: Callable[[Store], T]) -> T:
        writer = self._running()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        writer.submit(WriterCall(future, function))
        return await future

    async def _read(self, read: Callable[[sqlite3.Connection], T], empty: T) -> T:
        del empty
        return await self._call(lambda store: read(store.db))

    async def _tally(self) -> Tally:
        self._running()
        return self._newest

    def _hand_back(self, leases: Sequence[Lease]) -> None:
        if self._writer is not None and self._closing is None:
            self._writer.submit(WriterCall(None, lambda store: store.unclaim(leases)))

    async def put(
        self,
        questions: Sequence[Question],
        *,
        bookmark: Mapping[str, Any] | None = None,
        checks: SourceChecks | None = None,
    ) -> PutReport:
        """See WorkQueue."""
        batch = list(questions)
        mark = None if bookmark is None else encode_bookmark(bookmark)
        return await self._call(lambda store: store.put(batch, mark, checks))

    async def source_checks(self) -> bytes:
        """See WorkQueue."""
        return await self._read(read_source_checks, b"")

    async def lease(self, limit: int, wait_s: float = 0.0) -> list[Lease]:
        """See WorkQueue."""
        writer = self._running()
        if limit < 1:
            return []
        future: asyncio.Future[list[Lease]] = asyncio.get_running_loop().create_future()
        writer.submit(Take(future, limit, time.monotonic() + wait_s))
        try:
            leases = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._hand_back(future.result())
            raise
        if leases and writer.paused:
            self._hand_back(leases)
            return []
        return leases

    def sent(self, lease: Lease) -> None:
        """See WorkQueue."""
        self._sends.append(lease.payload)
        if self._sends_timer is None and self._writer is not None:
            self._write_sends_later(self._writer, lease.payload)

    def _write_sends_later(self, writer: Writer, oldest: int) -> None:
        self._sends_timer = writer.loop.call_later(SENDS_DELAY_S, self._write_sends, writer, oldest)

    def _write_sends(self, writer: Writer, oldest: int) -> None:
        """Write the sends, unless a transaction has taken the `oldest` since the timer began."""
        self._sends_timer = None
        if self._closing is not None or writer.failed is not None:
            return
        with suppress(IndexError):  # the writer's thread takes sends meanwhile
            if (now_oldest := self._sends[0]) != oldest:
                self._write_sends_later(writer, now_oldest)
            else:
                writer.submit(WriterCall(None, lambda store: store.begin()))

    async def commit(self, lease: Lease, result: Result) -> bool:
        """See WorkQueue."""
        if not isinstance(lease.payload, int):
            raise lease.foreign_error()
        writer = self._running()
        future: asyncio.Future[bool] = writer.loop.create_future()
        writer.submit_soon(Commit(future, lease, result, None if is_large(result) else encode_end(result)))
        return await future

    async def retry(self, lease: Lease, delay_s: float, failure: Failure) -> None:
        """See WorkQueue."""
        await self._give_back(lease, delay_s, "retried", failure)

    async def release(
        self, lease: Lease, delay_s: float = 0.0, *, failure: Failure | None = None, refused: bool = False
    ) -> None:
        """See WorkQueue."""
        await self._give_back(lease, delay_s, "lost" if failure else "released", failure, refused=refused)

    async def _give_back(
        self, lease: Lease, delay_s: float, outcome: str, failure: Failure | None, *, refused: bool = False
    ) -> None:
        delay_s = min(max(0.0, delay_s), LONGEST_DELAY_S)
        await self._call(lambda store: store.give_back(lease, delay_s, outcome, failure, refused=refused))

    async def bury(self, lease: Lease, failure: Failure) -> None:
        """See WorkQueue."""
        await self._call(lambda store: store.bury(lease, failure))

    async def extend(self, lease: Lease) -> None:
        """See WorkQueue."""
        await self._call(lambda store: store.extend(lease))

    async def results(self, after: int = 0, limit: int = 1000) -> list[Outcome]:
        """See WorkQueue."""
        return await self._read(lambda database: read_records(database, after, limit), [])

    async def number_of(self, cursor: str) -> int:
        """See WorkQueue."""
        log = await self._read(read_log_name, "")
        return read_cursor(cursor, log, (await self._tally()).last_number, self.path)

    async def revision(self) -> int:
        """See WorkQueue."""
        return (await self._tally()).revision

    async def seal(self) -> None:
        """See WorkQueue."""
        await self._call(lambda store: store.seal())

    async def cancel(self) -> int:
        """See WorkQueue."""
        return await self._call(lambda store: store.cancel())

    async def run_state(self) -> RunState:
        """See WorkQueue."""
        return (await self._tally()).run_state

    async def replay(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """See WorkQueue."""
        return await self._call(lambda store: store.replay(ids, failure_type))

    async def purge(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """See WorkQueue."""
        return await self._call(lambda store: store.purge(ids, failure_type))

    async def announce(self, facts: Mapping[str, Any] | None) -> None:
        """Write the `control` facts of this process to the lock file (mode 0600); None removes them."""
        await self._call(lambda store: store.lock.announce(facts))

    def pause(self) -> None:
        """See WorkQueue."""
        self._running().paused = True

    def resume(self) -> None:
        """See WorkQueue."""
        writer = self._running()
        writer.paused = False
        writer.submit(WriterCall(None, lambda _: None))

    def end_waits(self, within_s: float) -> None:
        """Let no call wait for space on a full disk for longer than `within_s` from now on."""
        if self._writer is not None:
            self._writer.space.end_within(within_s)

    async def close(self) -> None:
        """Settle pending calls, checkpoint, close the file and release the lock; idempotent.

        Raises:
            QueueError: the disk failed, or did not answer within 10 s.
        """
        if self._writer is None:
            return
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            if self._sends_timer is not None:
                self._sends_timer.cancel()
            self._writer.submit(Stop(self._closing))
            if self._watch is not None:
                self._watch.stop()
        try:
            await asyncio.wait_for(asyncio.shield(self._closing), CLOSE_BOUND_S)
        except TimeoutError:
            raise QueueError(f"{self.path}: the disk did not answer within {CLOSE_BOUND_S:.0f} s of closing") from None
