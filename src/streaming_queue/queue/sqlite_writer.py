"""The thread that owns the database: it takes jobs, groups them into transactions, and replies after COMMIT."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from streaming_queue.errors import QueueClosedError, QueueError, QueueStalledError
from streaming_queue.queue.full_disk import FullDisk
from streaming_queue.queue.linger import LINGER_S, Linger
from streaming_queue.queue.sqlite_schema import as_queue_error, is_fatal
from streaming_queue.queue.sqlite_state import Tally
from streaming_queue.queue.sqlite_store import Store
from streaming_queue.queue.writer_jobs import Commit, Stop, Take, WriterCall, WriterJob

GROUP = 256
"""Jobs of a full transaction."""
LONGEST_SLEEP_S = 3600.0
INSTRUCTIONS = 1_000_000
"""SQLite reports its progress after so many of its instructions."""


Reply = tuple[WriterJob, Any, QueueError | None]
Receive = Callable[[list[Reply], Tally | None], None]
OnFull = Callable[[bool], None]


class Writer:
    """Runs a `Store` in a thread of its own. `receive` gets each group's replies and the figures, in `loop`.

    `paused`: give no leases. `failed` is the failure that ended the store, None while it works. While the disk is full,
    jobs wait for `full_s` seconds before they fail, and `on_full` hears of it in `loop`. `busy` and `progress` are for
    the owner, who watches the thread: `progress` changes with each operation, and during a long one.
    """

    def __init__(
        self,
        path: Path,
        open_store: Callable[[], Store],
        loop: asyncio.AbstractEventLoop,
        receive: Receive,
        *,
        full_s: float = 0.0,
        on_full: OnFull = lambda _: None,
    ) -> None:
        self.paused = False
        self.busy = False
        self.progress = 0
        self.space = FullDisk[WriterJob](full_s, partial(self._post, on_full))
        self._path = path
        self._open_store = open_store
        self.loop = loop
        self._receive = receive
        self._inbox: SimpleQueue[list[WriterJob]] = SimpleQueue()
        self._postponed: list[WriterJob] = []
        self._waiting: deque[Take] = deque()
        self.failed: QueueError | None = None
        self._linger = Linger()
        self._in_hand: Sequence[WriterJob] = ()
        self._gone = False  # whether the thread takes no more jobs

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
            if self._gone:
                self._abandon()

    def give_up(self, failure: QueueError) -> None:
        """End all pending and later jobs: the thread died, or stands still. For the event loop."""
        self.failed = self.failed or failure
        self._gone = True
        self._hand_over()
        self._abandon()

    def _abandon(self) -> None:
        jobs: list[WriterJob] = [*self._in_hand, *self._waiting, *self.space.jobs]
        stops: list[WriterJob] = []
        with suppress(Empty):
            while True:
                taken = self._inbox.get_nowait()
                jobs += taken
                stops += (job for job in taken if isinstance(job, Stop))
        self._receive([(job, None, None if isinstance(job, Stop) else self.failed) for job in jobs], None)
        if stops:
            self._inbox.put(stops)  # for a thread that only stood still

    def closed_error(self) -> QueueError:
        """The error of a call after a failure."""
        cls = QueueStalledError if isinstance(self.failed, QueueStalledError) else QueueClosedError
        return cls(f"the queue closed itself: {self.failed}")

    def _run(self, opened: WriterJob) -> None:
        self._in_hand = (opened,)
        try:
            self._work(opened)
        except BaseException as error:
            failure = as_queue_error(self._path, error)
            failure.add_note("the queue's thread ended")
            self.failed = self.failed or failure
            self._post(self.give_up, failure)
        finally:
            self.busy = False

    def _work(self, opened: WriterJob) -> None:
        self.busy = True
        try:
            store = self._open_store()
        except Exception as error:
            self._report([(opened, None, as_queue_error(self._path, error))], None)
            return
        try:
            store.db.set_progress_handler(self._advance, INSTRUCTIONS)
            stop: WriterJob | None = None
            is_open = self._report([(opened, None, None)], store)
            while is_open and stop is None:
                self.busy = False
                jobs = self._gather(store)
                self._in_hand = tuple(jobs)
                self.busy = True
                self.progress += 1
                if jobs and isinstance(jobs[-1], Stop):
                    stop = jobs.pop()
                self._waiting.extend(job for job in jobs if isinstance(job, Take))
                due = self.space.due(more=bool(self._waiting) and not self.paused)
                self._in_hand = (*self._in_hand, *due)
                replies = self._serve(store, [*due, *(job for job in jobs if not isinstance(job, Take))])
                self.space.tried()
                is_open = self._report(replies, store)
                self._in_hand = ()
        except BaseException:
            with suppress(Exception):
                store.close(clean=False)
            raise
        self._finish(store, stop)

    def _advance(self) -> int:
        self.progress += 1
        return 0  # go on

    def _finish(self, store: Store, stop: WriterJob | None) -> None:
        full = QueueClosedError(f"{self._path}: the disk is full, and the queue was closed before there was space")
        replies: list[Reply] = [(job, [], None) for job in self._waiting]
        replies += [(job, None, full) for job in self.space.jobs]
        failure: QueueError | None = None
        if isinstance(self.failed, QueueStalledError):
            with suppress(sqlite3.Error):
                store.close(clean=False)
        elif self.failed is None:
            try:
                store.close(clean=True)
            except Exception as error:
                failure = as_queue_error(self._path, error)
        if stop is not None:
            replies.append((stop, None, failure))
        self._report(replies, store)

    def _report(self, replies: list[Reply], store: Store | None) -> bool:
        """Send replies to the event loop; False if the loop is closed."""
        return not replies or self._post(self._receive, replies, replace(store.tally) if store else None)

    def _post(self, function: Callable[..., object], *arguments: Any) -> bool:
        """Call `function` in the event loop; False if the loop is closed."""
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
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
        if all(isinstance(job, Commit) for job in jobs) and self._linger.pays(len(jobs)):
            alone = len(jobs)
            time.sleep(LINGER_S)
            self._drain(jobs)
            self._linger.took(alone, len(jobs))
        return jobs

    def _drain(self, jobs: list[WriterJob]) -> None:
        try:
            while len(jobs) < GROUP and not isinstance(jobs[-1], Stop):
                jobs += self._inbox.get_nowait()
        except Empty:
            return

    def _longest_wait(self, store: Store) -> float | None:
        space_s = self.space.wait_s()
        if not self._waiting:
            return None if space_s == inf else space_s
        patience = min(min(job.deadline for job in self._waiting) - time.monotonic(), space_s)
        if not self.paused and not self.space.is_waiting:
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
                replies: list[Reply] = [(job, None, as_queue_error(self._path, error)) for job in (*jobs, *waiting)]
                self._waiting.clear()
                return replies
            if len(jobs) + bool(hand_out and waiting) > 1:
                alone = [reply for job in jobs for reply in self._serve(store, [job], hand_out=False)]
                return alone + self._serve(store, []) if hand_out else alone
            if self.space.keeps(error, list(jobs)):
                return []
            if not jobs:
                self._waiting.clear()
            return [(job, None, as_queue_error(self._path, error)) for job in jobs or waiting]

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
        if self._waiting and not self.paused and not self.space.is_waiting:
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
        return [(job, None, self.closed_error()) for job in refused]

    def _recover(self, store: Store, error: Exception) -> bool:
        """Undo the transaction. False: the store is lost and closed, for a failed fsync must not be repeated."""
        if not (isinstance(error, sqlite3.Error) and is_fatal(error)):
            try:
                store.undo()
                return True
            except Exception as second:
                error = second
        self.failed = as_queue_error(self._path, error)
        try:
            store.close(clean=False)
        except sqlite3.Error as second:
            self.failed.add_note(f"closing it failed too: {second}")
        return False
