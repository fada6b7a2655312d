"""`protocol: auto`: it chooses the workers by the cost of their protocols in this run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable
from typing import Any

from streaming_queue.config import Auto
from streaming_queue.core.scheduling.bandit import Bandit, Pull
from streaming_queue.errors import AgentFailedError, CommError, StreamingQueueError
from streaming_queue.messages import Result
from streaming_queue.telemetry.events import EventListener, Notice

MOST_EMITTED = 20
"""The most shifts that are emitted during the run; the report has all."""


class ProtocolChoice:
    """Gives questions to workers with the cheapest protocols; the other protocols get a share for exploration.

    A scheduler calls `grant` as its last check, and reports every outcome. The event loop calls `on_change` when a
    refused worker may ask again.
    """

    def __init__(
        self, settings: Auto, worker_ids: Iterable[str], *, protocol_of: Callable[[str], str], emit: EventListener
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._settings = settings
        self._protocol_of = protocol_of
        self._protocols = {worker_id: protocol_of(worker_id) for worker_id in worker_ids}
        self._up: Collection[str] = tuple(self._protocols)
        self._emit = emit
        self._emitted = 0
        self._waking = False
        self._bandit = Bandit(
            dict.fromkeys(self._protocols.values()),
            exploration=settings.exploration,
            draw=random.Random(settings.seed).random,
            limit_ms=settings.max_overhead_ms,
        )

    def is_free(self, worker_id: str) -> bool:
        """Whether the worker's protocol is not held back."""
        return self._bandit.is_free(self._protocol(worker_id))

    def grant(self, worker_id: str, shunned: Collection[str] = ()) -> bool:
        """Whether the worker takes this question; no `shunned` worker may get it. True counts as taken."""
        protocol, bandit = self._protocol(worker_id), self._bandit
        if bandit.is_free(protocol):
            why = Pull.FREELY
        elif bandit.is_due(protocol):
            why = Pull.EXPLORED
        elif shunned and not any(self.is_free(each) for each in self._up if each not in shunned):
            why = Pull.NO_OTHER
        else:
            return False
        bandit.pull(protocol, why)
        if bandit.is_any_due:
            self._wake()
        return True

    def answered(self, worker_id: str, result: Result) -> None:
        """Count an answered question."""
        self._bandit.answered(self._protocol(worker_id), cost_ms=result.protocol_ms, work_ms=result.llm_ms)
        self._heed()

    def failed(self, worker_id: str, error: StreamingQueueError) -> None:
        """Count a failed attempt, but only if the exchange failed, not the agent or its model."""
        if isinstance(error, CommError) and not isinstance(error, AgentFailedError):
            self._bandit.failed(self._protocol(worker_id))
            self._heed()

    def reached(self, worker_ids: Collection[str]) -> None:
        """Set the workers that can be reached now."""
        self._up = worker_ids
        self._bandit.reach({self._protocol(worker_id) for worker_id in worker_ids})
        self._heed()

    def report(self) -> dict[str, Any]:
        """The settings, and every decision: counts by protocol and reason, measurements, shifts."""
        settings = {name: getattr(self._settings, name) for name in type(self._settings).model_fields}
        return {"settings": settings, **self._bandit.report()}

    def _protocol(self, worker_id: str) -> str:
        """A worker's protocol; a worker that joins later may have a new one."""
        protocol = self._protocols.get(worker_id)
        if protocol is None:
            protocol = self._protocols[worker_id] = self._protocol_of(worker_id)
            self._bandit.add(protocol)
        return protocol

    def _heed(self) -> None:
        new = self._bandit.shift_count - self._emitted
        for shift in list(self._bandit.shifts)[-new:] if new else ():
            self._emitted += 1
            if self._emitted <= MOST_EMITTED:
                what = "takes questions freely" if shift.now == "free" else f"is held back, {shift.now}"
                self._emit(Notice("info", f"auto: {shift.protocol} {what}: {shift.because}"))
        if new or self._bandit.is_any_due:
            self._wake()

    def _wake(self) -> None:
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wakened)

    def _wakened(self) -> None:
        self._waking = False
        self.on_change()
