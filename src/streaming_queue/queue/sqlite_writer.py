"""The thread that owns the database: it takes jobs, groups them into transactions, and replies after COMMIT."""

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
"""Jobs of a full transaction."""
FULL_GROUP = 64
"""A group with this many commits does not wait for more."""
LINGER_S = 0.005
RAREST = 10
"""After many useless waits, only one of 2 ** 10 groups waits for more commits."""
LONGEST_SLEEP_S = 3600.0


@dataclass(slots=True, eq=False)
class WriterJob:
    """A job; its value or error goes to `future`, if there is one."""

    future: asyncio.Future[Any] | None


@dataclass(slots=True, eq=False)
class WriterCall(WriterJob):
    """Run `function(store)`."""

    function: Callable[[Store], Any]


@dataclass(slots=True, eq=False)
class Commit(WriterJob):
    """Record an answer; `body` is its JSON."""

    lease: Lease
    result: Result
    body: str


@dataclass(slots=True, eq=False)
class Take(WriterJob):
    """Lease up to `limit` questions; wait for the first until `deadline`, a moment of the monotonic clock."""

    limit: int
    deadline: float


@dataclass(slots=True, eq=False)
class Stop(WriterJob):
    """Close; the last job."""


Reply = tuple[WriterJob, Any, QueueError | None]
Receive = Callable[[list[Reply], Tally | None], None]


class Writer:
    """Runs a `Store` in a thread of its own. `receive` gets each group's replies and the figures, in `loop`.

    `paused`: give no leases. `failed` is the failure that ended the store, None while it works.
    """

    def __init__(
        self, path: Path, open_store: Callable[[], Store], loop: asyncio.AbstractEventLoop, receive: Receive
    ) -> None:
        self.paused = False
        self._path = path
        self._open_store = open_store
        self.loop = loop
        self._receive = receive
        self._inbox: SimpleQueue[list[WriterJob]] = SimpleQueue()
        self._postponed: list[WriterJob] = []
        self._waiting: deque[Take] = deque()
        self.failed: QueueError | None = None
        self._last_commit = 0.0
        self._useless_lingers = 0
        self._lingers_skipped = 0

    def start(self, opened: asyncio.Future[Any]) -> None:
        """Start the thread; `opened` ends when the store is open, or with the error."""
        Thread(target=self._run, args=(WriterJob(opened),), name=f"queue {self._path.name}", daemon=True).start()

    def submit(self, job: WriterJob) -> None:
        """Hand over a job, after the postponed ones; never blocks."""
        self._postponed.append(job)
        self._hand_over()

    def submit_soon(self, job: WriterJob) -> None:
        """Hand over a job after the current turn of the event loop, together with all jobs of that turn.

        A wake-up of the thread for each commit would cost more than the commits.
        """
        self._postponed.append(job)
        if len(self._postponed) == 1:
            self.loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        if self._postponed:
            jobs, self._postponed = self._postponed, []
            self._inbox.put(jobs)

    def _run(self, opened: WriterJob) -> None:
        try:
            store = self._open_store()
        except Exception as error:
            self._report([(opened, None, self._translate(error))], None)
            return
        stop: WriterJob | None = None
        is_open = self._report([(opened, None, None)], store)
        while is_open and stop is None:
            jobs = self._gather(store)
            if jobs and isinstance(jobs[-1], Stop):
                stop = jobs.pop()
            self._waiting.extend(job for job in jobs if isinstance(job, Take))
            is_open = self._report(self._serve(store, [job for job in jobs if not isinstance(job, Take)]), store)
        self._finish(store, stop)

    def _finish(self, store: Store, stop: WriterJob | None) -> None:
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
        """Send replies to the event loop; False if the loop is closed."""
        if replies:
            try:
                self.loop.call_soon_threadsafe(self._receive, replies, replace(store.tally) if store else None)
            except RuntimeError:
                return False
        return True

    def _gather(self, store: Store) -> list[WriterJob]:
        """The jobs that came in: at least one, unless a waiting lease is due first."""
        jobs: list[WriterJob] = []
        try:
            jobs += self._inbox.get(timeout=self._longest_wait(store))
        except Empty:
            return jobs
        self._drain(jobs)
        if all(isinstance(job, Commit) for job in jobs):
            self._linger(jobs)
        return jobs

    def _drain(self, jobs: list[WriterJob]) -> None:
        try:
            while len(jobs) < GROUP and not isinstance(jobs[-1], Stop):
                jobs += self._inbox.get_nowait()
        except Empty:
            return

    def _linger(self, jobs: list[WriterJob]) -> None:
        """Wait a moment for more commits if they come fast, and only as long as that pays.

        A commit in a group costs several times less. But no commit comes while all workers, or the only one, wait for
        theirs. So each linger that did not double the group makes the next lingers rarer.
        """
        now = time.monotonic()
        recent, self._last_commit = now - self._last_commit < LINGER_S, now
        if not recent or len(jobs) >= FULL_GROUP:
            return
        if self._lingers_skipped < (1 << self._useless_lingers) - 1:
            self._lingers_skipped += 1
            return
        alone = len(jobs)
        time.sleep(LINGER_S)
        self._drain(jobs)
        self._lingers_skipped = 0
        self._useless_lingers = 0 if len(jobs) >= 2 * alone else min(self._useless_lingers + 1, RAREST)
        self._last_commit = time.monotonic()

    def _longest_wait(self, store: Store) -> float | None:
        if not self._waiting:
            return None
        patience = min(job.deadline for job in self._waiting) - time.monotonic()
        if not self.paused:
            patience = min(patience, store.next_change() - store.clock())
        return min(max(patience, 0.0), LONGEST_SLEEP_S)

    def _serve(self, store: Store, jobs: Sequence[WriterJob], *, hand_out: bool = True) -> list[Reply]:
        """Do `jobs` in one transaction; if the store refuses it, do each job in its own."""
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

    def _attempt(self, store: Store, jobs: Sequence[WriterJob], *, hand_out: bool) -> list[Reply]:
        replies: list[Reply] = []
        commits = [job for job in jobs if isinstance(job, Commit)]
        if commits:
            verdicts = store.commit(commits)
            replies.extend((job, first, None) for job, first in zip(commits, verdicts, strict=True))
        for job in jobs:
            if isinstance(job, WriterCall):
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

    def _refuse(self, jobs: Sequence[WriterJob]) -> list[Reply]:
        refused = [*jobs, *self._waiting]
        self._waiting.clear()
        return [(job, None, QueueClosedError(f"the queue closed itself: {self.failed}")) for job in refused]

    def _recover(self, store: Store, error: Exception) -> bool:
        """Undo the transaction. False: the store is lost and closed, for a failed fsync must not be repeated."""
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
