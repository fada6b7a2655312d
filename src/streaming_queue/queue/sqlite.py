"""The durable queue: one SQLite file, one owner, one thread that writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson

from streaming_queue.errors import QueueClosedError, QueueError
from streaming_queue.messages import Counts, Failure, Outcome, PutReport, Question, Result
from streaming_queue.queue.base import Attempt, Lease, WorkQueue
from streaming_queue.queue.codec import encode_bookmark, encode_result
from streaming_queue.queue.refusals import foreign_lease
from streaming_queue.queue.sqlite_state import Tally
from streaming_queue.queue.sqlite_store import Store
from streaming_queue.queue.sqlite_writer import Call, Commit, Reply, Stop, Take, Writer

T = TypeVar("T")

CLOSE_BOUND_S = 10.0
LONGEST_DELAY_S = 1e9


class SQLiteQueue(WorkQueue):
    """A queue in the SQLite file `path`; made by `open`, used in the event loop that opened it.

    A lease lasts `lease_s`. `put` refuses what would make more than `max_open` questions open. Every method raises
    DiskFullError (nothing of the call was stored, the queue goes on) or another QueueError when the disk fails; after
    a failure that leaves the file in doubt the queue closes itself, and later calls raise QueueClosedError. A call
    that is cancelled may have been carried out nevertheless, whole; leases nobody received go back.
    """

    def __init__(self, path: str | PathLike[str], *, lease_s: float = 60.0, max_open: int | None = None) -> None:
        self.path = Path(path)
        self._lease_s = lease_s
        self._max_open = max_open
        self._clock: Callable[[], float] = time.monotonic
        self._writer: Writer | None = None
        self._closing: asyncio.Future[None] | None = None
        self._tally = Tally()

    @classmethod
    async def open(cls, path: str | PathLike[str], *, lease_s: float = 60.0, max_open: int | None = None) -> Self:
        """Open the queue in `path`, made if there is none; its folder must exist. Leases of an earlier run are void.

        Raises:
            QueueError: another process owns the file (its pid is named), it is damaged, foreign, of another version,
                on a network file system, or cannot be written; the text says which and what to do.
        """
        queue = cls(path, lease_s=lease_s, max_open=max_open)
        await queue._start()
        return queue

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._writer = Writer(self.path, self._open_store, loop, self._told)
        opened = loop.create_future()
        self._writer.start(opened)
        try:
            await opened
        except asyncio.CancelledError:
            self._writer.submit(Stop(None))
            raise
        except QueueError:
            self._writer = None
            raise

    def _open_store(self) -> Store:
        return Store(self.path, lease_s=self._lease_s, max_open=self._max_open, clock=self._clock)

    def _told(self, replies: Sequence[Reply], tally: Tally | None) -> None:
        if tally is not None:
            self._tally = tally
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
            raise QueueClosedError(f"the queue closed itself: {self._writer.failed}")
        return self._writer

    async def _call(self, function: Callable[[Store], T]) -> T:
        writer = self._running()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        writer.submit(Call(future, function))
        return await future

    def _hand_back(self, leases: Sequence[Lease]) -> None:
        if self._writer is not None and self._closing is None:
            self._writer.submit(Call(None, lambda store: store.unclaim(leases)))

    async def put(self, questions: Sequence[Question], *, bookmark: Mapping[str, Any] | None = None) -> PutReport:
        """See WorkQueue."""
        batch = list(questions)
        mark = None if bookmark is None else encode_bookmark(bookmark)
        return await self._call(lambda store: store.put(batch, mark))

    async def bookmark(self) -> dict[str, Any] | None:
        """See WorkQueue."""
        self._running()
        mark = self._tally.bookmark
        return None if mark is None else orjson.loads(mark)

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

    async def commit(self, lease: Lease, result: Result) -> bool:
        """See WorkQueue."""
        if not isinstance(lease.payload, int):
            raise foreign_lease(lease)
        writer = self._running()
        body = encode_result(result)
        future: asyncio.Future[bool] = writer.loop.create_future()
        writer.submit_soon(Commit(future, lease, result, body))
        return await future

    async def retry(self, lease: Lease, delay_s: float, failure: Failure) -> None:
        """See WorkQueue."""
        await self._call(lambda store: store.retry(lease, _bounded(delay_s), failure))

    async def release(self, lease: Lease, delay_s: float = 0.0, *, failure: Failure | None = None) -> None:
        """See WorkQueue."""
        await self._call(lambda store: store.release(lease, _bounded(delay_s), failure))

    async def bury(self, lease: Lease, failure: Failure) -> None:
        """See WorkQueue."""
        await self._call(lambda store: store.bury(lease, failure))

    async def extend(self, lease: Lease) -> None:
        """See WorkQueue."""
        await self._call(lambda store: store.extend(lease))

    async def counts(self) -> Counts:
        """See WorkQueue."""
        self._running()
        return self._tally.counts

    async def results(self, after: int = 0, limit: int = 1000) -> list[Outcome]:
        """See WorkQueue."""
        return await self._call(lambda store: store.results(after, limit))

    async def revision(self) -> int:
        """See WorkQueue."""
        self._running()
        return self._tally.revision

    async def dead(self, limit: int = 1000, *, after: int = 0, failure_type: str | None = None) -> list[Outcome]:
        """See WorkQueue."""
        return await self._call(lambda store: store.dead(after, limit, failure_type))

    async def dead_letter(self, question_id: str) -> Outcome | None:
        """See WorkQueue."""
        return await self._call(lambda store: store.dead_letter(question_id))

    async def reasons(self) -> dict[str, int]:
        """See WorkQueue."""
        return await self._call(lambda store: store.reasons())

    async def attempts(self, question_id: str) -> list[Attempt]:
        """See WorkQueue."""
        return await self._call(lambda store: store.attempts(question_id))

    async def stats(self) -> dict[str, int]:
        """See WorkQueue."""
        self._running()
        return self._tally.stats

    async def replay(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """See WorkQueue."""
        return await self._call(lambda store: store.replay(ids, failure_type))

    async def purge(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """See WorkQueue."""
        return await self._call(lambda store: store.purge(ids, failure_type))

    async def announce(self, facts: Mapping[str, Any] | None) -> None:
        """Tell in the lock file, for its owner's eyes only, how this process is spoken to; None: not any more."""
        await self._call(lambda store: store.lock.announce(facts))

    def pause(self) -> None:
        """See WorkQueue."""
        self._running().paused = True

    def resume(self) -> None:
        """See WorkQueue."""
        writer = self._running()
        writer.paused = False
        writer.submit(Call(None, lambda _: None))

    async def close(self) -> None:
        """Settle what is pending, checkpoint, close the file and give up the lock; idempotent.

        Raises:
            QueueError: the disk failed, or did not answer within 10 s.
        """
        if self._writer is None:
            return
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            self._writer.submit(Stop(self._closing))
        try:
            await asyncio.wait_for(asyncio.shield(self._closing), CLOSE_BOUND_S)
        except TimeoutError:
            raise QueueError(f"{self.path}: the disk did not answer within {CLOSE_BOUND_S:.0f} s of closing") from None


def _bounded(delay_s: float) -> float:
    return min(max(0.0, delay_s), LONGEST_DELAY_S)
