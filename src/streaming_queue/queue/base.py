"""The contract of every queue: at-least-once execution, exactly-once recorded result.

An acknowledged change survives the loss of the process, and with a durable engine the loss of power. The interface fits
a database and a broker, so that no caller changes when the engine changes.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from streaming_queue.errors import LeaseLostError, QueueError, RunCancelledError, RunClosedError
from streaming_queue.messages import Counts, Failure, Outcome, PutReport, Question, Result, SourceChecks
from streaming_queue.record import record


@record
class Lease:
    """The right to work on a question, until it is settled, given back, or taken over.

    `attempt` counts from 1. `fence` grows with every lease of the question: `retry`, `bury`, `release` and `extend`
    need the newest fence. `waited_ms` is the time the question was ready, `losses` the number of workers lost with it.
    `payload` is the engine's own handle. `leased_at` is a moment of the monotonic clock. `run` names the run of the
    question in a queue of many runs.
    """

    question: Question
    attempt: int
    fence: int
    waited_ms: float
    losses: int = 0
    payload: Any = None
    leased_at: float = field(default_factory=time.monotonic, compare=False)
    run: str = ""

    @property
    def id(self) -> str:
        """The question's id; a leased question always has one."""
        if self.question.id is None:
            raise ValueError("a leased question has an id")
        return self.question.id

    @property
    def key(self) -> str:
        """The question, in a queue of one run or of many."""
        return f"{self.run}/{self.id}" if self.run else self.id

    def lost_error(self) -> LeaseLostError:
        """The error for a call that needs the newest fence."""
        return LeaseLostError(
            f"question {self.id!r}: lease {self.fence} was taken over, given back or settled; "
            "its holder may only commit"
        )

    def foreign_error(self) -> QueueError:
        """The error for a lease without the handle of the engine."""
        return QueueError(f"question {self.id!r}: the lease is not from this queue, so the answer cannot be recorded")


RunState = Literal["open", "sealed", "done", "cancelled"]


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt in the append-only history. `outcome`: answered, late, retried, released, lost or buried.

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

    @classmethod
    def of(cls, lease: Lease, outcome: str, end: Result | Failure | None) -> AttemptRecord:
        """The attempt of `lease`, which ends now."""
        ended = time.time()
        worker = protocol = seconds = None
        if end is not None:
            worker, protocol, seconds = end.worker, end.protocol, end.response_time_s
        started = None if seconds is None else ended - seconds
        failure = end if isinstance(end, Failure) else None
        return cls(lease.id, lease.attempt, lease.fence, worker, protocol, started, ended, outcome, failure)


STATS = ("re_executions", "leases_taken_ahead", "late_duplicates_rejected", "losses")
"""The keys of `Record.stats`."""


def candidate_ids(question: Question) -> Iterable[str]:
    """The ids a question may take, best first: its own (else the hash of its text), then `id#2`, `id#3` ..."""
    stem = question.id if question.id is not None else hashlib.sha256(question.text.encode()).hexdigest()[:16]
    yield stem
    number = 2
    while True:
        yield f"{stem}#{number}"
        number += 1


def run_state(*, sealed: object, cancelled: object, counts: Counts) -> RunState:
    """The state of a run; see `WorkQueue.run_state`."""
    if cancelled:
        return "cancelled"
    return "open" if not sealed else "sealed" if counts.open else "done"


def closed_error(state: RunState, what: str = "takes no more questions") -> RunClosedError:
    """The error of a call that a closed run refuses."""
    return RunClosedError(f"the run is {state} and {what}")


CANCELLED = Failure(RunCancelledError.__name__, "the run was cancelled")


class Record(ABC):
    """The read operations of a queue. A stopped queue has only these."""

    @abstractmethod
    async def bookmark(self) -> dict[str, Any] | None:
        """The newest bookmark, None if none was stored."""

    @abstractmethod
    async def counts(self) -> Counts:
        """Questions by state."""

    @abstractmethod
    async def dead(self, limit: int = 1000, *, after: int = 0, failure_type: str | None = None) -> list[Outcome]:
        """The dead letters with `number` above `after`, oldest first; those of one type of failure, or all."""

    @abstractmethod
    async def dead_letter(self, question_id: str) -> Outcome | None:
        """The dead letter with this question id, None if there is none."""

    @abstractmethod
    async def reasons(self) -> dict[str, int]:
        """The number of dead letters by type of failure, the most frequent first."""

    @abstractmethod
    async def attempts(self, question_id: str) -> list[AttemptRecord]:
        """The history of a question, oldest first."""

    @abstractmethod
    async def stats(self) -> dict[str, int]:
        """The counts `STATS`.

        `re_executions`: sends of a question after its first. `leases_taken_ahead`: leases that ended without a send.
        `late_duplicates_rejected`: answers after the recorded one. `losses`: attempts lost with their worker.
        """


class LeaseQueue(ABC):
    """A queue as a scheduler uses it: leases, and how each ends."""

    @abstractmethod
    async def lease(self, limit: int, wait_s: float = 0.0) -> list[Lease]:
        """Up to `limit` questions, by priority then age; waits up to `wait_s` for the first. May be empty."""

    @abstractmethod
    def sent(self, lease: Lease) -> None:
        """Note for `stats` that the question is sent now. Never waits, never raises.

        The note is durable with the next change, or after 0.25 s.
        """

    @abstractmethod
    async def commit(self, lease: Lease, result: Result) -> bool:
        """Record the answer; durable on return. False: another answer was first, this one is only counted.

        The fence need not be the newest: the first valid answer wins, even an answer for a dead letter.
        """

    @abstractmethod
    async def retry(self, lease: Lease, delay_s: float, failure: Failure) -> None:
        """Count the attempt and give the question back, for a new lease after `delay_s`. Raises LeaseLostError."""

    @abstractmethod
    async def release(
        self, lease: Lease, delay_s: float = 0.0, *, failure: Failure | None = None, refused: bool = False
    ) -> None:
        """Give the question back without counting the attempt: after a restart, a drain, or a refusal by a full worker.

        With `failure` the worker was lost, and the losses of the question grow by one. `refused`: the worker did not
        take the question, so its send does not count. Raises LeaseLostError.
        """

    @abstractmethod
    async def bury(self, lease: Lease, failure: Failure) -> None:
        """Move the question to the dead letters. Raises LeaseLostError."""

    @abstractmethod
    async def extend(self, lease: Lease) -> None:
        """Prolong the lease by the queue's lease time. Raises LeaseLostError."""

    @abstractmethod
    async def counts(self) -> Counts:
        """Questions by state."""

    @abstractmethod
    def pause(self) -> None:
        """Stop giving leases until `resume`. All other calls work."""

    @abstractmethod
    def resume(self) -> None:
        """Give leases again."""

    @abstractmethod
    async def close(self) -> None:
        """Settle pending calls and close; idempotent. Later calls raise QueueClosedError."""


class WorkQueue(Record, LeaseQueue):
    """The questions of one run and the record of their ends."""

    @abstractmethod
    async def put(
        self,
        questions: Sequence[Question],
        *,
        bookmark: Mapping[str, Any] | None = None,
        checks: SourceChecks | None = None,
    ) -> PutReport:
        """Store questions in order, and `bookmark` and `checks` with them in the same step; durable on return.

        A question may state its id. If the id is known with the same text, the question is counted and not stored
        again, in any state. If the id is known with another text, the question takes the next of `candidate_ids`. A
        question without an id is always new and takes the first free candidate. A batch is stored whole or not at all.

        Raises:
            QueueFullError: the batch would exceed the queue's limit of open questions; nothing was stored.
            RunClosedError: the run is sealed or cancelled; nothing was stored.
        """

    @abstractmethod
    async def source_checks(self) -> bytes:
        """The stored checks of the source's lines, from the first line on."""

    @abstractmethod
    async def results(self, after: int = 0, limit: int = 1000) -> list[Outcome]:
        """The newest record of each question with `number` above `after`, by number: up to `limit`, fewer if large.

        Every end, replay and purge is a record with a new number, which is never used again. It replaces the older
        record of its question, and names it (`Outcome.supersedes`). A question that never ended has no record.
        """

    @abstractmethod
    async def number_of(self, cursor: str) -> int:
        """The number of the record whose row has this cursor; 0 for empty text, the beginning.

        Raises:
            ConfigError: it is no cursor, or not one of this queue.
        """

    @abstractmethod
    async def revision(self) -> int:
        """The number of recorded ends that a replay, a purge or a late answer took back.

        If it grows, a reader that keeps the ended questions only must start again.
        """

    @abstractmethod
    async def seal(self) -> None:
        """Take no more questions; the run is done when all have ended. Idempotent."""

    @abstractmethod
    async def cancel(self) -> int:
        """End the run: its open questions become dead letters of type `RunCancelledError`. Return their number.

        A question in flight may still be answered. If it fails or is given back, it becomes such a dead letter, too.
        Idempotent.
        """

    @abstractmethod
    async def run_state(self) -> RunState:
        """open, sealed, done (sealed, and every question has ended) or cancelled."""

    @abstractmethod
    async def replay(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """Make dead letters ready again, with no attempts counted. Return their number.

        Raises:
            RunClosedError: the run is cancelled.
        """

    @abstractmethod
    async def purge(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """Delete dead letters. Return their number."""
