"""Watches a run from beside it: its events with their moments, and twenty times a second how far it is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from streaming_queue.failstorm.timeline import Cycle, Timeline
from streaming_queue.telemetry.events import Answered, Event, RoundFinished, WorkerDown, WorkerUp

SAMPLE_S = 0.05


class Observer:
    """A listener of a run's events. Moments are the monotonic clock's."""

    def __init__(self, workers: Sequence[str]) -> None:
        self.workers = tuple(workers)
        self.answered: list[tuple[str, float]] = []
        """Each answer that was told to be recorded: the question's id, and when."""
        self.in_service = set(workers)
        self.stats: Mapping[str, Any] = {}
        """The run's own summary, once it has ended."""
        self._samples: list[tuple[float, int]] = []
        self._downs: list[tuple[float, str]] = []
        self._ups: list[tuple[float, str]] = []
        self._changed = asyncio.Event()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        now = time.monotonic()
        if isinstance(event, Answered):
            self.answered.append((event.question_id, now))
        elif isinstance(event, WorkerDown):
            self._downs.append((now, event.worker))
            self.in_service.discard(event.worker)
        elif isinstance(event, WorkerUp):
            self._ups.append((now, event.worker))
            self.in_service.add(event.worker)
        elif isinstance(event, RoundFinished):
            self.stats = event.summary
        else:
            return
        self._changed.set()

    @property
    def told(self) -> Counter[str]:
        """How often each question was told to be answered."""
        return Counter(question_id for question_id, _ in self.answered)

    async def watch(self) -> None:
        """Take samples, for ever."""
        while True:
            self._samples.append((time.monotonic(), len(self.answered)))
            await asyncio.sleep(SAMPLE_S)

    async def answers(self, count: int) -> None:
        """Wait until so many answers are recorded."""
        while len(self.answered) < count:
            await self._change()

    async def all_in_service(self) -> None:
        """Wait until every worker is."""
        while len(self.in_service) < len(self.workers):
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def timeline(
        self,
        origin: float,
        cycles: Sequence[Cycle],
        due: Mapping[str, float],
        *,
        capacity_per_s: float,
        offered_per_s: float,
    ) -> Timeline:
        """What was seen since `origin`, which becomes 0; `due` says when each question was to be asked."""
        return Timeline(
            workers=self.workers,
            capacity_per_s=capacity_per_s,
            offered_per_s=offered_per_s,
            samples=tuple((moment - origin, count) for moment, count in self._samples if moment >= origin),
            downs=tuple((moment - origin, worker) for moment, worker in self._downs if moment >= origin),
            ups=tuple((moment - origin, worker) for moment, worker in self._ups if moment >= origin),
            waits=tuple(
                (due[question_id] - origin, moment - due[question_id])
                for question_id, moment in self.answered
                if due[question_id] >= origin
            ),
            cycles=tuple(
                Cycle(
                    cycle.began - origin,
                    {worker: moment - origin for worker, moment in cycle.over.items()},
                    cycle.ended - origin,
                )
                for cycle in cycles
            ),
        )
