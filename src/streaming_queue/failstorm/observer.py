"""The observer of a run: it records the run's events with their moments, and its progress twenty times a second."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from streaming_queue.failstorm.timeline import Timeline
from streaming_queue.telemetry.events import Answered, Event, RunFinished, WorkerDown, WorkerUp

T = TypeVar("T")

SAMPLE_S = 0.05


class Observer:
    """A listener of a run's events. `due` has the moment at which each question is to be asked, by the monotonic clock.

    It fills `timeline` from `begin` on.
    """

    def __init__(self, workers: Sequence[str], due: Mapping[str, float]) -> None:
        self.timeline = Timeline(tuple(workers))
        self.answered: list[tuple[str, float]] = []
        """Each event of an answer: the question's id, and the moment by the monotonic clock."""
        self.in_service = set(workers)
        self.stats: Mapping[str, Any] = {}
        """The run's own summary, once the run has ended."""
        self._due = due
        self._origin = math.inf
        self._changed = asyncio.Event()

    def begin(self) -> None:
        """The steady load begins: this moment is 0."""
        self._origin = time.monotonic()

    def now(self) -> float:
        """Seconds since `begin`."""
        return time.monotonic() - self._origin

    def __call__(self, event: Event) -> None:
        """Record an event."""
        if isinstance(event, Answered):
            now, due = time.monotonic(), self._due[event.question_id]
            self.answered.append((event.question_id, now))
            if due >= self._origin:
                self.timeline.waits.append((due - self._origin, now - due))
        elif isinstance(event, WorkerDown):
            self._record(self.timeline.downs, event.worker)
            self.in_service.discard(event.worker)
        elif isinstance(event, WorkerUp):
            self._record(self.timeline.ups, event.worker)
            self.in_service.add(event.worker)
        elif isinstance(event, RunFinished):
            self.stats = event.summary
        else:
            return
        self._changed.set()

    def _record(self, series: list[tuple[float, T]], value: T) -> None:
        if (moment := self.now()) >= 0:
            series.append((moment, value))

    async def watch(self) -> None:
        """Take samples, without end."""
        while True:
            self._record(self.timeline.samples, len(self.answered))
            await asyncio.sleep(SAMPLE_S)

    async def answers(self, count: int) -> None:
        """Wait for so many answers."""
        await self._until(lambda: len(self.answered) >= count)

    async def all_in_service(self) -> None:
        """Wait until every worker is in service."""
        await self._until(lambda: len(self.in_service) == len(self.timeline.workers))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
