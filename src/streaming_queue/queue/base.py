"""The contract of every queue: at-least-once execution, exactly-once recorded result.

What a method acknowledged survives the loss of the process (a durable engine: of the power). The interface fits a
database and a broker alike, so that nothing above it changes when the engine does.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streaming_queue.messages import Counts, Failure, Outcome, PutReport, Question, Result
from streaming_queue.record import record


@record
class Lease:
    """The right to work on a question, until it is settled, given back, or taken over.

    `attempt` counts from 1. `fence` grows with every lease of the question: `retry`, `bury`, `release` and `extend`
    need the newest. `waited_ms` is how long the question had been ready, `losses` how many workers it has outlived.
    `payload` is the engine's own handle. `leased_at` is a moment of the monotonic clock.
    """

    question: Question
    attempt: int
    fence: int
    waited_ms: float
    losses: int = 0
    payload: Any = None
    leased_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def id(self) -> str:
        """The question's id; a leased question always has one."""
        if self.question.id is None:
            raise ValueError("a leased question has an id")
        return self.question.id


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, as the append-only history keeps it. `outcome`: answered, late, retried, released, lost or buried.

    Times are seconds since the epoch.
    """

    question_id: str
    attempt: int
    fence: int
    worker: str | None
    protocol: str | None
    started: float | None
    ended: float
    outcome: str
    failure: Failure | None = None


def candidate_ids(question: Question) -> Iterable[str]:
    """The ids a question may take, best first: its own (else the hash of its text), then `id#2`, `id#3` ..."""
    stem = question.id if question.id is not None else hashlib.sha256(question.text.encode()).hexdigest()[:16]
    yield stem
    number = 2
    while True:
        yield f"{stem}#{number}"
        number += 1


class Record(ABC):
    """What a queue knows of its questions: the reading half of `WorkQueue`, and all of a queue that nobody runs."""

    @abstractmethod
    async def bookmark(self) -> dict[str, Any] | None:
        """The newest bookmark stored, None if there is none."""

    @abstractmethod
    async def counts(self) -> Counts:
        """Questions by state."""

    @abstractmethod
    async def dead(self, limit: int = 1000, *, after: int = 0, failure_type: str | None = None) -> list[Outcome]:
        """The dead letters with `number` above `after`, oldest first; those of one type of failure, or all."""

    @abstractmethod
    async def dead_letter(self, question_id: str) -> Outcome | None:
        """One dead letter; None where the question is none."""

    @abstractmethod
    async def reasons(self) -> dict[str, int]:
        """How many dead letters there are of each type of failure, the most first."""

    @abstractmethod
    async def attempts(self, question_id: str) -> list[Attempt]:
        """The history of a question, oldest first."""

    @abstractmethod
    async def stats(self) -> dict[str, int]:
        """`re_executions` (leases after the first that were sent), `late_duplicates_rejected`, `losses`."""


class WorkQueue(Record):
    """A queue of questions and the record of their ends."""

    @abstractmethod
    async def put(self, questions: Sequence[Question], *, bookmark: Mapping[str, Any] | None = None) -> PutReport:
        """Store questions in order, and `bookmark` with them in the same step; durable on return.

        A question that states its id: known with the same text, it is counted and not stored again, whatever its
        state; known with another text, it takes the next of `candidate_ids`. A question without an id is always a
        new one and takes the first free candidate. One batch is stored whole or not at all.

        Raises:
            QueueFullError: the queue's limit of open questions would be passed; nothing was stored.
        """

    @abstractmethod
    async def lease(self, limit: int, wait_s: float = 0.0) -> list[Lease]:
        """Up to `limit` questions, by priority then age; waits up to `wait_s` for the first. May be empty."""

    @abstractmethod
    async def commit(self, lease: Lease, result: Result) -> bool:
        """Record the answer; durable on return. False: another answer was first, this one is only counted.

        Needs no current fence: the first valid answer wins, even one for a dead letter.
        """

    @abstractmethod
    async def retry(self, lease: Lease, delay_s: float, failure: Failure) -> None:
        """Give back after a counted attempt; not leased again before `delay_s`. Raises LeaseLostError."""

    @abstractmethod
    async def release(self, lease: Lease, delay_s: float = 0.0, *, failure: Failure | None = None) -> None:
        """Give back uncounted: a restart, a drain, a full worker are no attempts. Raises LeaseLostError.

        With `failure` the worker was lost: the question's losses grow by one.
        """

    @abstractmethod
    async def bury(self, lease: Lease, failure: Failure) -> None:
        """Move to the dead letters. Raises LeaseLostError."""

    @abstractmethod
    async def extend(self, lease: Lease) -> None:
        """Prolong the lease by the queue's lease time. Raises LeaseLostError."""

    @abstractmethod
    async def results(self, after: int = 0, limit: int = 1000) -> list[Outcome]:
        """Ended questions with `number` above `after`, in that order.

        A dead letter that is answered late, or replayed and ended again, gets a new, higher number: see `revision`.
        """

    @abstractmethod
    async def revision(self) -> int:
        """How often a recorded end was taken back (a replay, a late answer): a reader that kept copies starts anew."""

    @abstractmethod
    async def replay(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """Make dead letters ready again, with their attempts forgotten; returns how many."""

    @abstractmethod
    async def purge(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """Delete dead letters; returns how many."""

    @abstractmethod
    def pause(self) -> None:
        """Hand out no leases until `resume`; everything else goes on."""

    @abstractmethod
    def resume(self) -> None:
        """Hand out leases again."""

    @abstractmethod
    async def close(self) -> None:
        """Settle what is pending and close; idempotent. Later calls raise QueueClosedError."""
