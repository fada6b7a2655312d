"""The thread that owns the database: takes jobs, groups them into transactions, answers after COMMIT."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from streaming_queue.errors import QueueClosedError, QueueError
from streaming_queue.messages import Result
from streaming_queue.queue.base import Lease
from streaming_queue.queue.sqlite_schema import is_fatal, storage_error
from streaming_queue.queue.sqlite_state import Tally
from streaming_queue.queue.sqlite_store import Store

GROUP = 256
"""With so many jobs in a transaction no more are looked for."""
FULL_GROUP = 64
"""So many commits do not wait for more."""
LINGER_S = 0.005
RAREST = 10
"""Lingers that keep being in vain become one in 2 ** 10 groups."""
LONGEST_SLEEP_S = 3600.0


@dataclass(slots=True, eq=False)
class Job:
    """Something to do; what comes of it goes to `future`, if anybody waits."""

    future: asyncio.Future[Any] | None


@dataclass(slots=True, eq=False)
class Call(Job):
    """Run `function(store)`."""

    function: Callable[[Store], Any]


@dataclass(slots=True, eq=False)
class Commit(Job):
    """Record an answer; `body` is its JSON."""

    lease: Lease
    result: Result
    body: str


@dataclass(slots=True, eq=False)
class Take(Job):
    """Lease up to `limit` questions; wait for the first until `deadline`, a moment of the monotonic clock."""

    limit: int
    deadline: float


@dataclass(slots=True, eq=False)
class Stop(Job):
    """Close; the last job there is."""


Reply = tuple[Job, Any, QueueError | None]
Tell = Callable[[list[Reply], Tally | None], None]


class Writer:
    """Runs a `Store` in a thread of its own; `tell` is called in `loop` with each group's replies and the figures.

    `paused` stops leases from being handed out. `failed` says why the store had to be given up, None while it works.
    """

    def __init__(
        self, path: Path, open_store: Callable[[], Store], loop: asyncio.AbstractEventLoop, tell: Tell
    ) -> None:
        self.paused = False
        self._path = path
        self._open_store = open_store
        self.loop = loop
        self._tell = tell
        self._inbox: SimpleQueue[list[Job]] = SimpleQueue()
        self._postponed: list[Job] = []
        self._waiting: deque[Take] = deque()
        self.failed: QueueError | None = None
        self._last_commit = 0.0
        self._in_vain = 0
        self._lingers_skipped = 0

    def start(self, opened: asyncio.Future[Any]) -> None:
        """Start the thread; `opened` is answered when the store is open, or cannot be."""
        Thread(target=self._run, args=(Job(opened),), name=f"queue {self._path.name}", daemon=True).start()

    def submit(self, job: Job) -> None:
        """Hand over a job, after those that were postponed; never blocks."""
        jobs, self._postponed = [*self._postponed, job], []
        self._inbox.put(jobs)

    def submit_soon(self, job: Job) -> None:
        """Hand over a job when the event loop has seen to what is due now, with all that come meanwhile.

        To wake the thread for each commit would cost more than the commits.
        """
        self._postponed.append(job)
        if len(self._postponed) == 1:
            self.loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        if self._postponed:
            jobs, self._postponed = self._postponed, []
            self._inbox.put(jobs)

    def _run(self, opened: Job) -> None:
        try:
            store = self._open_store()
        except Exception as error:
            self._report([(opened, None, self._translate(error))], None)
            return
        stop: Job | None = None
        heard = self._report([(opened, None, None)], store)
        while heard and stop is None:
            jobs = self._gather(store)
            if jobs and isinstance(jobs[-1], Stop):
                stop = jobs.pop()
            self._waiting.extend(job for job in jobs if isinstance(job, Take))
            heard = self._report(self._serve(store, [job for job in jobs if not isinstance(job, Take)]), store)
        self._finish(store, stop)

    def _finish(self, store: Store, stop: Job | None) -> None:
        replies: list[Reply] = [(job, [], None) for job in self._waiting]
        failure: QueueError | None = None
        if self.failed is None:
            try:
                store.close(clean=True)
            except Exception as error:
                failure = self._translate(error)
        if stop is not None:
            replies.append((stop, None, failure))
        self._report(replies, store)

    def _report(self, replies: list[Reply], store: Store | None) -> bool:
        """Tell the event loop; False when it is closed and nobody is left to tell."""
        if replies:
            try:
                self.loop.call_soon_threadsafe(self._tell, replies, replace(store.tally) if store else None)
            except RuntimeError:
                return False
        return True

    def _gather(self, store: Store) -> list[Job]:
        """What has come in, at least one job unless a waiting lease has its moment first."""
        jobs: list[Job] = []
        try:
            jobs += self._inbox.get(timeout=self._patience(store))
        except Empty:
            return jobs
        self._drain(jobs)
        if all(isinstance(job, Commit) for job in jobs):
            self._linger(jobs)
        return jobs

    def _drain(self, jobs: list[Job]) -> None:
        try:
            while len(jobs) < GROUP and not isinstance(jobs[-1], Stop):
                jobs += self._inbox.get_nowait()
        except Empty:
            return

    def _linger(self, jobs: list[Job]) -> None:
        """Wait a moment for more commits when they come fast, and only while that has been worth it.

        A commit costs several times less in company; but where all workers wait for theirs, or there is only one,
        none would come. So a linger that did not double the group makes the next ones ever rarer.
        """
        now = time.monotonic()
        recent, self._last_commit = now - self._last_commit < LINGER_S, now
        if not recent or len(jobs) >= FULL_GROUP:
            return
        if self._lingers_skipped < (1 << self._in_vain) - 1:
            self._lingers_skipped += 1
            return
        alone = len(jobs)
        time.sleep(LINGER_S)
        self._drain(jobs)
        self._lingers_skipped = 0
        self._in_vain = 0 if len(jobs) >= 2 * alone else min(self._in_vain + 1, RAREST)
        self._last_commit = time.monotonic()

    def _patience(self, store: Store) -> float | None:
        if not self._waiting:
            return None
        patience = min(job.deadline for job in self._waiting) - time.monotonic()
        if not self.paused:
            patience = min(patience, store.next_change() - store.clock())
        return min(max(patience, 0.0), LONGEST_SLEEP_S)

    def _serve(self, store: Store, jobs: Sequence[Job], *, hand_out: bool = True) -> list[Reply]:
        """Do `jobs` in one transaction; where the store refuses that, each in one of its own."""
        if self.failed is not None:
            return self._refuse(jobs)
        waiting = list(self._waiting)
        try:
            return self._attempt(store, jobs, hand_out=hand_out)
        except Exception as error:
            self._waiting = deque(waiting)
            if not self._recover(store, error):
                replies: list[Reply] = [(job, None, self._translate(error)) for job in (*jobs, *waiting)]
                self._waiting.clear()
                return replies
            if len(jobs) + bool(hand_out and waiting) > 1:
                alone = [reply for job in jobs for reply in self._serve(store, [job], hand_out=False)]
                return alone + self._serve(store, []) if hand_out else alone
            if not jobs:
                self._waiting.clear()
            return [(job, None, self._translate(error)) for job in jobs or waiting]

    def _attempt(self, store: Store, jobs: Sequence[Job], *, hand_out: bool) -> list[Reply]:
        replies: list[Reply] = []
        commits = [job for job in jobs if isinstance(job, Commit)]
        if commits:
            verdicts = store.commit(commits)
            replies.extend((job, first, None) for job, first in zip(commits, verdicts, strict=True))
        for job in jobs:
            if isinstance(job, Call):
                try:
                    replies.append((job, job.function(store), None))
                except QueueError as error:
                    replies.append((job, None, error))
        if hand_out:
            replies.extend(self._hand_out(store))
        store.end()
        return replies

    def _hand_out(self, store: Store) -> list[Reply]:
        replies: list[Reply] = []
        if self._waiting and not self.paused:
            store.refresh()
            self._waiting = deque(job for job in self._waiting if job.future and not job.future.cancelled())
            leases = store.claim(sum(job.limit for job in self._waiting))
            given = 0
            while given < len(leases):
                job = self._waiting.popleft()
                share = leases[given : given + job.limit]
                given += len(share)
                replies.append((job, share, None))
        now = time.monotonic()
        replies.extend((job, [], None) for job in self._waiting if job.deadline <= now)
        self._waiting = deque(job for job in self._waiting if job.deadline > now)
        return replies

    def _refuse(self, jobs: Sequence[Job]) -> list[Reply]:
        refused = [*jobs, *self._waiting]
        self._waiting.clear()
        return [(job, None, QueueClosedError(f"the queue closed itself: {self.failed}")) for job in refused]

    def _recover(self, store: Store, error: Exception) -> bool:
        """Undo the transaction; False when the store is lost and closed: a failed fsync must not be tried again."""
        if not (isinstance(error, sqlite3.Error) and is_fatal(error)):
            try:
                store.undo()
                return True
            except Exception as second:
                error = second
        self.failed = self._translate(error)
        try:
            store.close(clean=False)
        except sqlite3.Error as second:
            self.failed.add_note(f"closing it failed too: {second}")
        return False

    def _translate(self, error: Exception) -> QueueError:
        if isinstance(error, QueueError):
            return error
        if isinstance(error, sqlite3.Error):
            ours = storage_error(self._path, error)
        else:
            ours = QueueError(f"{self._path}: {type(error).__name__}: {error}")
        ours.__cause__ = error
        return ours
