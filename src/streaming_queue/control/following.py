"""The rows of a run for readers in other processes, until the run has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator

from streaming_queue.messages import Outcome
from streaming_queue.queue.lock import find_owner, is_left_behind
from streaming_queue.queue.rows import RecordReader
from streaming_queue.report.run_directory import RunDirectory

POLL_S = 0.2
PATIENCE_S = 5.0
"""Longest time that a run has no owner while it starts or while it writes down how it ended."""


class RowFollower:
    """The records of the run in `directory` after `cursor`, while its process works, ends or begins. Blocks.

    `state` is then the end of the run: done, stopped, failed, or killed: its process ended without a word.
    """

    def __init__(self, directory: RunDirectory, cursor: str | None = None) -> None:
        """Begin after `cursor`. None is the beginning, without news of dead letters that were gone before.

        Raises:
            ConfigError: the cursor is not from this run.
            QueueError: the run's queue is damaged or unreadable.
        """
        self.state: str | None = None
        self._directory = directory
        self._reader = RecordReader(directory.queue_path, cursor or "")
        self._silent_until = 0 if cursor is not None else self._reader.newest
        self._ownerless_since: float | None = None

    def recorded(self) -> Iterator[list[Outcome]]:
        """Pages of the records that existed at the start. Raises QueueError."""
        return map(self._news, self._reader.read(self._reader.newest))

    def follow(self) -> Iterator[list[Outcome]]:
        """Pages of records until the run has ended. Raises QueueError, ConfigError."""
        while self.state is None:
            state = self._ended()  # before the read, which then misses nothing
            yield from map(self._news, self._reader.read())
            self.state = state
            if state is None:
                time.sleep(POLL_S)

    def _news(self, page: list[Outcome]) -> list[Outcome]:
        return [outcome for outcome in page if outcome.has_ended or outcome.number > self._silent_until]

    def _ended(self) -> str | None:
        """How the run ended; None while a process works on it, begins or ends."""
        database = self._directory.queue_path
        if find_owner(database) is not None:
            self._ownerless_since = None
            return None
        state = str(RunDirectory.open(self._directory.path).manifest["state"])
        if state != "running":
            return state
        if self._ownerless_since is None:
            self._ownerless_since = time.monotonic()
        waited_s = time.monotonic() - self._ownerless_since
        return "killed" if is_left_behind(database) or waited_s > PATIENCE_S else None
