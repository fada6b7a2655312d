"""The figures of a run by its events. This module only counts; `live` and `console` draw."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from streaming_queue.messages import Counts, Result
from streaming_queue.telemetry import events
from streaming_queue.telemetry.events import Event
from streaming_queue.telemetry.text import clock, rate

_RATE_WINDOW_S = 15.0
_SAMPLES = 60
_SLOW_S = 60.0
_SLOW_TIMES = 5.0
_SAMPLE_S = 1.0


@dataclass(slots=True)
class WorkerProgress:
    """One worker. `errors` counts failed attempts; another worker may answer the question."""

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


class RunProgress:
    """Takes events in one thread. Another thread may read it, and sees figures of about the same moment.

    Memory is bounded by the workers and the questions in flight. `settled` is answered plus failed. While `reading`,
    questions still come in and `total` grows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.concurrency = 0
        self.total = 0
        self.answered = 0
        self.failed = 0
        self.retried = 0
        self.reading = True
        self.state = "running"
        self.waiting = ""
        self.protocols: list[str] = []
        self.mock = False
        self.workers: dict[str, WorkerProgress] = {}
        self._asked: dict[str, list[str]] = {}
        self._asked_at: dict[str, float] = {}
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
        """The ended part of the known questions, 0 to 1."""
        return min(1.0, self.settled / self.total) if self.total else 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began here."""
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
        """The rate of each second in the last minute."""
        return [(settled - before) / (now - then) for (then, before), (now, settled) in pairwise(list(self._samples))]

    def eta_s(self) -> float | None:
        """Seconds to the end; None while they are unknown: the run reads, is paused or waits, or no question ends."""
        per_s = self.rate()
        if self.reading or self.state == "paused" or self.waiting or not per_s:
            return None
        return max(0, self.total - self.settled) / per_s

    def slowest(self) -> str:
        """The question that has been at a worker for much longer than the others took; empty if there is none."""
        for question_id, asked_at in list(self._asked_at.items())[:1]:  # the first one was asked first
            seconds = self._clock() - asked_at
            took_s = sum(worker.response_s for worker in list(self.workers.values()))
            usual_s = took_s / self.answered if self.answered else 0.0
            if seconds > max(_SLOW_S, _SLOW_TIMES * usual_s):
                return f"{', '.join(self._asked.get(question_id, ()))}: {question_id} for {seconds:.0f} s"
        return ""

    def sample(self) -> None:
        """Keep the present figures for `rate` and `history`, at most once a second."""
        now = self._clock()
        if now - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now, self.settled - self._base))

    def apply(self, event: Event) -> None:
        """Count an event; an event that changes no figure is ignored."""
        match event:
            case events.Sent() | events.Hedged():
                self._worker(event.worker).in_flight += 1
                self._asked.setdefault(event.question_id, []).append(event.worker)
                self._asked_at.setdefault(event.question_id, self._clock())
            case events.Answered():
                self._on_answered(event)
            case events.Duplicate():
                self._returned(event.question_id, event.worker)
            case events.Retried():
                self.retried += 1
                self._on_failure(event.failure.worker, self._returned(event.question_id, event.failure.worker))
            case events.DeadLettered():
                self.failed += 1
                self._on_failure(event.failure.worker, self._returned(event.question_id))
            case events.WorkerDown() | events.WorkerUp() | events.WorkerJoined() | events.WorkerLeft():
                self._on_worker(event)
            case _:
                self._on_run(event)
        self.sample()

    def line(self) -> str:
        """The figures in one plain line."""
        known = f"{self.settled:,}/{self.total:,} ({self.share:.0%})"
        if self.reading:
            known = f"{self.settled:,} of {self.total:,} read so far"
        if self.state == "paused" or self.waiting:
            known = f"{'paused' if self.state == 'paused' else 'waiting'}, {known}"
        up = sum(worker.up for worker in self.workers.values())
        parts = [
            f"{known}, {self.answered:,} answered, {self.failed:,} failed, {self.in_flight} in flight",
            f"{rate(self.rate())}, ETA {clock(self.eta_s())}",
            f"{up} of {len(self.workers)} workers up",
        ]
        if slowest := self.slowest():
            parts.append(slowest)
        return " | ".join(parts)

    def _worker(self, name: str) -> WorkerProgress:
        worker = self.workers.get(name)
        if worker is None:
            worker = self.workers[name] = WorkerProgress(name)
        return worker

    def _returned(self, question_id: str, worker: str | None = None) -> list[str]:
        """Take a question back from `worker`, or from all its workers. Return the workers that had it."""
        asked = self._asked.pop(question_id, [])
        back = asked if worker is None else [name for name in asked if name == worker]
        for name in back:
            self.workers[name].in_flight -= 1
        if len(back) == len(asked):
            self._asked_at.pop(question_id, None)
        else:
            self._asked[question_id] = [name for name in asked if name != worker]
        return back

    def _take(self, counts: Counts) -> None:
        self.total, self.answered, self.failed = counts.total, counts.done, counts.dead

    def _on_answered(self, event: events.Answered) -> None:
        self._returned(event.question_id)
        self.answered += 1
        self._worker(event.result.worker).add(event.result)
        if event.result.protocol not in self.protocols:
            self.protocols.append(event.result.protocol)
        self.mock = self.mock or event.result.mock is True

    def _on_failure(self, worker: str | None, back: list[str]) -> None:
        for name in back if worker is None else [worker]:
            self._worker(name).errors += 1

    def _on_worker(self, event: events.WorkerDown | events.WorkerUp | events.WorkerJoined | events.WorkerLeft) -> None:
        if isinstance(event, events.WorkerJoined):
            self._worker(event.worker)
        if worker := self.workers.get(event.worker):  # a worker of a sub-coordinator's pool is not the run's own
            worker.up = isinstance(event, events.WorkerUp | events.WorkerJoined)
            worker.final = event.final if isinstance(event, events.WorkerDown) else not worker.up

    def _on_run(self, event: Event) -> None:
        match event:
            case events.RunStarted():
                self._on_started(event)
            case events.Queued():
                self.total = max(self.total, event.total)
            case events.IntakeFinished():
                self.reading = False
            case events.Waiting():
                self.waiting = event.text
            case events.WaitOver():
                self.waiting = ""
            case events.Paused():
                self.state = "paused"
            case events.Continued():
                self.state = "running"
            case events.Replayed() | events.Purged():
                self.failed -= event.count
                self._base -= event.count  # the rate counts ended questions; these are open again
                self.total -= event.count if isinstance(event, events.Purged) else 0
            case events.RunFinished():
                self.state, self.reading = event.state, False
                self._take(event.counts)
                self._asked.clear()

    def _on_started(self, event: events.RunStarted) -> None:
        self.concurrency = event.concurrency
        self.reading, self.state = True, "running"
        self._asked.clear()
        self.workers = {name: WorkerProgress(name) for name in event.workers}
        self._take(event.counts)
        self._base = self.settled
        self._started = self._clock()
        self._samples = deque([(self._started, 0)], maxlen=_SAMPLES)
