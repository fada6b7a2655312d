"""The jobs that wait for space while the disk is full."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from math import inf
from typing import Generic, TypeVar

Job = TypeVar("Job")

RETRY_S = 1.0
"""Pause between two tries to write on a full disk, in seconds."""


class FullDisk(Generic[Job]):
    """Keeps the jobs that found no space, for `bound_s` seconds; 0: keep none. For the thread of the database.

    `tell(True)` reports that jobs wait, `tell(False)` that there is space again. The number of jobs is bounded by the
    callers: each one waits for its job.
    """

    def __init__(self, bound_s: float, tell: Callable[[bool], object]) -> None:
        self.jobs: list[Job] = []
        self._bound_s = bound_s
        self._tell = tell
        self._until = inf
        self._since: float | None = None
        self._next_try = inf
        self._told = False

    @property
    def is_waiting(self) -> bool:
        """Whether the disk is full and the next try is not due: no lease can be given."""
        return self._since is not None and self._next_try < inf

    def end_within(self, seconds: float) -> None:
        """Keep jobs for at most so many seconds from now on. From any thread."""
        self._until = min(self._until, time.monotonic() + seconds)

    def wait_s(self) -> float:
        """The time until the next try, in seconds; infinity if the disk is not full."""
        return max(0.0, self._next_try - time.monotonic())

    def keeps(self, error: Exception, jobs: list[Job]) -> bool:
        """Whether `jobs`, which failed with `error`, wait for space; False: they fail now."""
        if not self._bound_s or not is_full(error):
            return False
        now = time.monotonic()
        self._since = began = now if self._since is None else self._since
        self._next_try = now + RETRY_S
        if now - began >= self._bound_s or now >= self._until:
            return False
        self.jobs += jobs
        if not self._told:
            self._told = True
            self._tell(True)
        return True

    def due(self, *, more: bool) -> list[Job]:
        """The jobs to try again now; the caller calls `tried` afterwards. `more`: a lease will be tried with them."""
        if not self.is_waiting or self.wait_s() > 0:
            return []
        if not self.jobs and not more:
            self._next_try = time.monotonic() + RETRY_S
            return []
        self._next_try = inf
        jobs, self.jobs = self.jobs, []
        return jobs

    def tried(self) -> None:
        """Note the end of a try: if it did not fail, there is space again."""
        if self._since is not None and self._next_try == inf:
            self._since = None
            if self._told:
                self._told = False
                self._tell(False)


def is_full(error: Exception) -> bool:
    """Whether SQLite found no space. A failed write or fsync is another error."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
