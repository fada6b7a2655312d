"""What a run's events add up to while it goes on. Counting only; how it looks is `live` and `console`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from streaming_queue.messages import Counts, Result
from streaming_queue.telemetry.events import (
    Answered,
    Buried,
    Continued,
    Duplicate,
    Event,
    Hedged,
    IntakeFinished,
    Paused,
    Purged,
    Queued,
    Replayed,
    Retried,
    RoundFinished,
    RoundStarted,
    Sent,
    WorkerDown,
    WorkerJoined,
    WorkerLeft,
    WorkerUp,
)
from streaming_queue.telemetry.text import NONE, clock, rate

_RATE_WINDOW_S = 15.0
_SAMPLES = 60
_SAMPLE_S = 1.0


@dataclass(slots=True)
class WorkerProgress:
    """One worker. `errors` counts failed attempts, of which some succeed elsewhere."""

    name: str
    up: bool = True
    final: bool = False
    in_flight: int = 0
    answered: int = 0
    errors: int = 0
    response_s: float = 0.0
    protocol_ms: float = 0.0
    protocol_count: int = 0

    @property
    def mean_response_ms(self) -> float | None:
        """Mean response time of its answers, ms."""
        return self.response_s * 1000 / self.answered if self.answered else None

    @property
    def mean_protocol_ms(self) -> float | None:
        """Mean protocol overhead of its answers, ms."""
        return self.protocol_ms / self.protocol_count if self.protocol_count else None

    def add(self, result: Result) -> None:
        """Count an answer."""
        self.answered += 1
        self.response_s += result.response_time_s
        if result.protocol_ms is not None:
            self.protocol_ms += result.protocol_ms
            self.protocol_count += 1


class Progress:
    """Takes events, in one thread; may be read from another, which then sees figures of about the same moment.

    Memory is bounded by the workers and the questions in flight. `settled` is answered plus failed. While
    `reading` the questions still come in and `total` grows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.round_id = ""
        self.concurrency = 0
        self.total = 0
        self.answered = 0
        self.failed = 0
        self.retried = 0
        self.hedged = 0
        self.reading = True
        self.state = "running"
        self.protocols: list[str] = []
        self.mock = False
        self.workers: dict[str, WorkerProgress] = {}
        self._asked: dict[str, list[str]] = {}
        self._counts: Mapping[type[Event], Callable[[Any], None]] = {
            RoundStarted: self._on_started,
            Queued: self._on_queued,
            IntakeFinished: self._on_intake,
            Sent: self._on_sent,
            Hedged: self._on_hedged,
            Answered: self._on_answered,
            Duplicate: self._on_duplicate,
            Retried: self._on_retried,
            Buried: self._on_buried,
            Paused: self._on_paused,
            Continued: self._on_continued,
            Replayed: self._on_replayed,
            Purged: self._on_purged,
            WorkerDown: self._on_down,
            WorkerUp: self._on_up,
            WorkerJoined: self._on_joined,
            WorkerLeft: self._on_left,
            RoundFinished: self._on_finished,
        }
        self._started = clock()
        self._base = 0
        self._samples: deque[tuple[float, int]] = deque([(self._started, 0)], maxlen=_SAMPLES)

    @property
    def settled(self) -> int:
        """Questions that have ended."""
        return self.answered + self.failed

    @property
    def in_flight(self) -> int:
        """Questions at a worker."""
        return len(self._asked)

    @property
    def share(self) -> float:
        """How much of what is known has ended, 0 to 1."""
        return min(1.0, self.settled / self.total) if self.total else 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the round began here."""
        return self._clock() - self._started

    def rate(self) -> float | None:
        """Questions that ended per second over the last 15 s; None before the first."""
        now, settled = self._clock(), self.settled - self._base
        if not settled:
            return None
        samples = [sample for sample in list(self._samples) if now - sample[0] <= _RATE_WINDOW_S]
        then, before = samples[0] if samples else self._samples[-1]
        return (settled - before) / (now - then) if now > then else None

    def history(self) -> list[float]:
        """The rate of each second so far, the last minute of it."""
        return [(settled - before) / (now - then) for (then, before), (now, settled) in pairwise(list(self._samples))]

    def eta_s(self) -> float | None:
        """Seconds to the end; None while nobody can know: the intake runs, it is paused, or nothing moves."""
        per_s = self.rate()
        if self.reading or self.state == "paused" or not per_s:
            return None
        return max(0, self.total - self.settled) / per_s

    def sample(self) -> None:
        """Remember the moment, at most once a second: what `rate` and `history` are made of."""
        now = self._clock()
        if now - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now, self.settled - self._base))

    def apply(self, event: Event) -> None:
        """Count an event; one that changes no figure is passed over."""
        count = self._counts.get(type(event))
        if count is not None:
            count(event)
        self.sample()

    def line(self) -> str:
        """All of it in one plain line."""
        known = f"{self.settled:,}/{self.total:,} ({self.share:.0%})"
        if self.reading:
            known = f"{self.settled:,} of {self.total:,} read so far"
        if self.state == "paused":
            known = f"paused, {known}"
        eta = self.eta_s()
        up = sum(worker.up for worker in self.workers.values())
        parts = [
            f"{known}, {self.answered:,} answered, {self.failed:,} failed, {self.in_flight} in flight",
            f"{rate(self.rate())}, ETA {clock(eta) if eta is not None else NONE}",
            f"{up} of {len(self.workers)} workers up",
        ]
        return " | ".join(parts)

    def _worker(self, name: str) -> WorkerProgress:
        worker = self.workers.get(name)
        if worker is None:
            worker = self.workers[name] = WorkerProgress(name)
        return worker

    def _returned(self, question_id: str, worker: str | None = None) -> list[str]:
        """Take a question back from a worker, from all that have it if `worker` is None; returns from whom."""
        asked = self._asked.pop(question_id, [])
        back = asked if worker is None else [name for name in asked if name == worker]
        for name in back:
            self.workers[name].in_flight -= 1
        if len(back) < len(asked):
            self._asked[question_id] = [name for name in asked if name != worker]
        return back

    def _take(self, counts: Counts) -> None:
        self.total, self.answered, self.failed = counts.total, counts.done, counts.dead

    def _on_started(self, event: RoundStarted) -> None:
        self.round_id, self.concurrency = event.round_id, event.concurrency
        self.reading, self.state = True, "running"
        self._asked.clear()
        self.workers = {name: WorkerProgress(name) for name in event.workers}
        self._take(event.counts)
        self._base = self.settled
        self._started = self._clock()
        self._samples = deque([(self._started, 0)], maxlen=_SAMPLES)

    def _on_queued(self, event: Queued) -> None:
        self.total = max(self.total, event.total)

    def _on_intake(self, _: IntakeFinished) -> None:
        self.reading = False

    def _on_sent(self, event: Sent) -> None:
        self._worker(event.worker).in_flight += 1
        self._asked.setdefault(event.question_id, []).append(event.worker)

    def _on_hedged(self, event: Hedged) -> None:
        self._worker(event.worker).in_flight += 1
        self._asked.setdefault(event.question_id, []).append(event.worker)
        self.hedged += 1

    def _on_answered(self, event: Answered) -> None:
        self._returned(event.question_id)
        self.answered += 1
        self._worker(event.result.worker).add(event.result)
        if event.result.protocol not in self.protocols:
            self.protocols.append(event.result.protocol)
        self.mock = self.mock or event.result.mock is True

    def _on_duplicate(self, event: Duplicate) -> None:
        self._returned(event.question_id, event.worker)

    def _on_retried(self, event: Retried) -> None:
        back = self._returned(event.question_id, event.failure.worker)
        self.retried += 1
        self._blame(event.failure.worker, back)

    def _on_buried(self, event: Buried) -> None:
        back = self._returned(event.question_id)
        self.failed += 1
        self._blame(event.failure.worker, back)

    def _blame(self, worker: str | None, back: list[str]) -> None:
        for name in [worker] if worker is not None else back:
            self._worker(name).errors += 1

    def _on_paused(self, _: Paused) -> None:
        self.state = "paused"

    def _on_continued(self, _: Continued) -> None:
        self.state = "running"

    def _on_replayed(self, event: Replayed) -> None:
        self.failed -= event.count
        self._base -= event.count  # the rate counts ends, and these were some

    def _on_purged(self, event: Purged) -> None:
        self._on_replayed(Replayed(event.count))
        self.total -= event.count

    def _on_down(self, event: WorkerDown) -> None:
        if worker := self.workers.get(event.worker):  # a member of a pool is not the round's own
            worker.up, worker.final = False, event.final

    def _on_up(self, event: WorkerUp) -> None:
        if worker := self.workers.get(event.worker):
            worker.up = True

    def _on_joined(self, event: WorkerJoined) -> None:
        self._worker(event.worker).up = True

    def _on_left(self, event: WorkerLeft) -> None:
        if worker := self.workers.get(event.worker):
            worker.up, worker.final = False, True

    def _on_finished(self, event: RoundFinished) -> None:
        self.state, self.reading = event.state, False
        self._take(event.counts)
        self._asked.clear()
