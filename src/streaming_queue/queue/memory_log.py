"""The questions of a queue in memory, and the log of their records."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from streaming_queue.cursor import read_cursor
from streaming_queue.messages import Failure, Outcome, Question, Result
from streaming_queue.queue.base import AttemptRecord


@dataclass(slots=True, eq=False)
class MemoryEntry:
    """A question and its history.

    `state` is ready, delayed, leased, done or dead. A lease is possible from the moment `since`. `sent`: the question
    was sent under an earlier lease; `in_flight`: it was sent under its present one. `outcome` is its newest record.
    """

    name: str
    question: Question
    since: float
    state: str = "ready"
    attempts: int = 0
    losses: int = 0
    sent: bool = False
    in_flight: bool = False
    fence: int = 0
    outcome: Outcome | None = None
    history: list[AttemptRecord] = field(default_factory=list)

    @property
    def failure_type(self) -> str | None:
        """The type of failure of a dead letter."""
        failure = self.outcome and self.outcome.failure
        return failure.type if failure else None

    @property
    def number(self) -> int:
        """The number of the newest record, 0 if there is none."""
        return self.outcome.number if self.outcome else 0


class MemoryLog:
    """The newest record of each question, by number."""

    def __init__(self) -> None:
        self._name = secrets.token_hex(4)
        self._records: list[Outcome | None] = []

    def add(
        self, entry: MemoryEntry, result: Result | None = None, failure: Failure | None = None, *, purged: bool = False
    ) -> None:
        """Add a record of `entry`; it replaces the record before."""
        supersedes = entry.number or None
        if supersedes:
            self._records[supersedes - 1] = None
        number, question = len(self._records) + 1, Question("", entry.name) if purged else entry.question
        entry.outcome = Outcome(
            number, question, entry.attempts, time.time(), result, failure, supersedes, purged, self._name
        )
        self._records.append(entry.outcome)

    def number_of(self, cursor: str) -> int:
        """See WorkQueue."""
        return read_cursor(cursor, self._name, len(self._records), "this queue in memory")

    def after(self, number: int) -> Iterator[Outcome]:
        """The records with a higher number."""
        newer = (self._records[index] for index in range(max(0, number), len(self._records)))
        return (outcome for outcome in newer if outcome)
