"""One question as `MemoryQueue` keeps it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from streaming_queue.messages import Failure, Outcome, Question, Result
from streaming_queue.queue.base import Attempt, Lease


@dataclass(slots=True, eq=False)
class Entry:
    """A question and all that is known of it.

    `state` is ready, delayed, leased, done or dead. `since` is the moment from which it may be leased. `sent` says
    that a lease of it may have been executed.
    """

    name: str
    question: Question
    since: float
    state: str = "ready"
    attempts: int = 0
    losses: int = 0
    sent: bool = False
    fence: int = 0
    outcome: Outcome | None = None
    history: list[Attempt] = field(default_factory=list)

    def lost(self) -> None:
        """Note that the holder of the newest lease was not heard of in time."""
        self.sent = True
        self.history.append(Attempt(self.name, self.attempts + 1, self.fence, None, None, None, time.time(), "lost"))

    def answered(self, lease: Lease, result: Result, outcome: str) -> None:
        """Note an answer."""
        self._note(lease, outcome, worker=result.worker, protocol=result.protocol, seconds=result.response_time_s)

    def ended_without(self, lease: Lease, outcome: str, failure: Failure | None) -> None:
        """Note an end of a lease without an answer."""
        if failure is None:
            self._note(lease, outcome)
            return
        seconds = failure.response_time_s
        self._note(lease, outcome, failure, worker=failure.worker, protocol=failure.protocol, seconds=seconds)

    def _note(
        self,
        lease: Lease,
        outcome: str,
        failure: Failure | None = None,
        *,
        worker: str | None = None,
        protocol: str | None = None,
        seconds: float | None = None,
    ) -> None:
        ended = time.time()
        started = None if seconds is None else ended - seconds
        self.history.append(
            Attempt(self.name, lease.attempt, lease.fence, worker, protocol, started, ended, outcome, failure)
        )
