"""Finds workers that keep their questions and their connection, but do not work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Protocol

from streaming_queue.core.pool.worker_health import WorkerHealth
from streaming_queue.errors import ConnectError

PROBE_TIMEOUT_S = 1.0
MISSES = 2
"""A worker is lost after this many failed probes in a row without an answer to a question in between."""
SILENCE = 0.75
"""A worker is probed after this time without a sign of life, as a share of the interval."""
LOOK = 0.1
"""The pause between two checks of all workers, as a share of the interval."""


class Tasks(Protocol):
    """The owner of the tasks that wait and probe: an `asyncio.TaskGroup`, or an owner that calls `WorkerPool.stop`."""

    def create_task(self, coro: Coroutine[None, None, None], /, *, name: str) -> asyncio.Task[None]:
        """Start a task."""


class StallDetector:
    """Probes those of `workers` that have questions and show no sign of life.

    `probe` returns within `PROBE_TIMEOUT_S` whether a worker is healthy; if not, the detector calls `lost`.
    """

    def __init__(
        self,
        workers: Mapping[str, WorkerHealth],
        *,
        tasks: Tasks,
        probe: Callable[[WorkerHealth], Awaitable[bool]],
        lost: Callable[[str, ConnectError], None],
        interval_s: float,
    ) -> None:
        self._workers = workers
        self._tasks = tasks
        self._probe = probe
        self._lost = lost
        self._interval_s = interval_s
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def watch(self) -> None:
        """Check all workers in an endless loop; the probes run in `tasks`."""
        look_s = LOOK * self._interval_s
        while True:
            woken = time.monotonic() + look_s
            await asyncio.sleep(look_s)
            now = time.monotonic()
            if now - woken > self._interval_s / 2:
                continue  # this process itself was suspended: it has not read the signs of life yet
            for worker_id, worker in self._workers.items():
                heard_at = max(worker.seen_at, worker.probed_at)
                silent = worker.up and worker.busy and now - heard_at >= SILENCE * self._interval_s
                if silent and (worker_id not in self._looking or self._looking[worker_id].done()):
                    looking = self._tasks.create_task(self._look_after(worker), name=f"look-after:{worker_id}")
                    self._looking[worker_id] = looking

    def forget(self, worker_id: str) -> None:
        """Stop the probe of a worker."""
        if looking := self._looking.pop(worker_id, None):
            looking.cancel()

    def stop(self) -> None:
        """Cancel every probe."""
        for looking in self._looking.values():
            looking.cancel()

    async def _look_after(self, worker: WorkerHealth) -> None:
        since = worker.seen_at
        for _ in range(MISSES):
            asked_at = time.monotonic()
            healthy = await self._probe(worker)
            if healthy:
                worker.probed_at = time.monotonic()
            if healthy or worker.seen_at > since or not worker.up:
                return
            if time.monotonic() - asked_at > 2 * PROBE_TIMEOUT_S:
                return  # this process was suspended
        self._lost(worker.worker_id, ConnectError(f"no answer to its probe, {MISSES} times in a row"))
