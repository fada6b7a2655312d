"""The worker pool as the scheduler sees it: who may be asked now, and who is probed until it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Protocol

from streaming_queue.errors import (
    AuthError,
    BackendClosedError,
    ConfigError,
    ConnectError,
    QuotaError,
    RateLimitedError,
    StreamingQueueError,
    UnknownAgentError,
    UnreachableError,
)
from streaming_queue.telemetry.events import Listener, WorkerDown, WorkerUp

PROBE_CAP_S = 30.0
RATE_LIMIT_PAUSE_S = 1.0
SHORTEST_PAUSE_S = 0.1

UNFIT = (AuthError, QuotaError, ConfigError, UnknownAgentError, UnreachableError, BackendClosedError)
"""What no other question will change: the worker is out for this round."""
WORKERS_OWN = (*UNFIT, ConnectError, RateLimitedError)
"""What says something of the worker and nothing of the question."""


class Tasks(Protocol):
    """Who owns the tasks that wait and probe: an `asyncio.TaskGroup`, or somebody who calls `WorkerPool.stop`."""

    def create_task(self, coro: Coroutine[None, None, None], /, *, name: str) -> asyncio.Task[None]:
        """Begin a task."""


@dataclass(slots=True)
class WorkerHealth:
    """One worker.

    `paused_until` is a moment of the monotonic clock: the worker is down by its own wish. `strikes` counts the times
    it was lost without an answer in between; `out` is why it is out for good.
    """

    worker_id: str
    up: bool = True
    paused_until: float | None = None
    strikes: int = 0
    out: StreamingQueueError | None = None


class WorkerPool:
    """Which workers are up. A lost worker is probed, with growing pauses, until it answers."""

    def __init__(
        self,
        worker_ids: Iterable[str],
        *,
        probe: Callable[[str], Awaitable[bool]],
        emit: Listener,
        on_change: Callable[[], None],
        probe_interval_s: float = 1.0,
    ) -> None:
        self.workers = {worker_id: WorkerHealth(worker_id) for worker_id in worker_ids}
        self.all_down_since: float | None = None
        """Since when no worker can be reached, by the monotonic clock; None while one is up or merely paused."""
        self._probe = probe
        self._emit = emit
        self._on_change = on_change
        self._probe_interval_s = probe_interval_s
        self._probing: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def is_up(self, worker_id: str) -> bool:
        """Whether the worker may be asked."""
        return self.workers[worker_id].up

    @property
    def up(self) -> list[str]:
        """The workers that may be asked."""
        return [worker.worker_id for worker in self.workers.values() if worker.up]

    @property
    def fatal_error(self) -> StreamingQueueError | None:
        """Why a worker is out, once every worker is out for good."""
        errors = [worker.out for worker in self.workers.values()]
        return errors[-1] if errors and all(errors) else None

    async def changed(self, timeout_s: float) -> None:
        """Wait until a worker comes or goes, `timeout_s` at the most."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return

    @property
    def paused_s(self) -> float | None:
        """How long it is until the first of the paused workers takes questions again; None where none is paused."""
        moments = [worker.paused_until for worker in self.workers.values() if worker.paused_until is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def blame(self, worker_id: str, error: StreamingQueueError, tasks: Tasks) -> bool:
        """Ask the worker nothing for a while, or any more, where the error is its own and not the question's.

        False: it is the question's. What has to be waited for is waited for in `tasks`.
        """
        if isinstance(error, UNFIT):
            self.expel(worker_id, error)
        elif isinstance(error, ConnectError):
            self.lost(worker_id, error, tasks)
        elif isinstance(error, RateLimitedError):
            wish_s = RATE_LIMIT_PAUSE_S if error.retry_after_s is None else error.retry_after_s
            self.pause(worker_id, max(SHORTEST_PAUSE_S, wish_s), str(error), tasks)
        else:
            return False
        return True

    def answered(self, worker_id: str) -> None:
        """A worker gave an answer: whatever was held against it is forgotten."""
        self.workers[worker_id].strikes = 0

    def lost(self, worker_id: str, error: StreamingQueueError, tasks: Tasks) -> None:
        """A worker cannot be reached: it is asked nothing until a probe, run in `tasks`, finds it healthy."""
        worker = self.workers[worker_id]
        if not worker.up:
            return
        worker.strikes += 1
        self._down(worker, str(error), final=False)
        self._probing[worker_id] = tasks.create_task(self._until_healthy(worker), name=f"probe:{worker_id}")

    def pause(self, worker_id: str, delay_s: float, reason: str, tasks: Tasks) -> None:
        """A worker asks to slow down: it is asked nothing for `delay_s`."""
        worker = self.workers[worker_id]
        if worker.up:
            worker.paused_until = time.monotonic() + delay_s
            self._down(worker, reason, final=False)
            self._probing[worker_id] = tasks.create_task(self._after(worker, delay_s), name=f"pause:{worker_id}")

    def expel(self, worker_id: str, error: StreamingQueueError) -> None:
        """A worker cannot work in this round at all: wrong credentials, no quota, misconfigured."""
        worker = self.workers[worker_id]
        if worker.out is None:
            worker.out, worker.paused_until = error, None
            if probing := self._probing.pop(worker_id, None):
                probing.cancel()
            self._down(worker, str(error), final=True)

    def readmit(self, worker_id: str) -> None:
        """Give a worker that was expelled another chance."""
        worker = self.workers[worker_id]
        if worker.out is not None:
            worker.out = None
            self._back(worker)

    def stop(self) -> None:
        """Cancel every probe."""
        for task in self._probing.values():
            task.cancel()

    def _down(self, worker: WorkerHealth, reason: str, *, final: bool) -> None:
        worker.up = False
        if self.all_down_since is None and not any(
            other.up or other.paused_until is not None for other in self.workers.values()
        ):
            self.all_down_since = time.monotonic()
        self._emit(WorkerDown(worker.worker_id, reason, final))
        self._wake()

    def _back(self, worker: WorkerHealth) -> None:
        self._probing.pop(worker.worker_id, None)
        if worker.out is None:
            worker.up, worker.paused_until = True, None
            self.all_down_since = None
            self._emit(WorkerUp(worker.worker_id))
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_change()

    async def _until_healthy(self, worker: WorkerHealth) -> None:
        # The first probe is soon, for a mere reset; a worker that is up by its probe but drops every question
        # (strikes) waits longer each time, so that it cannot eat the queue.
        pause_s = min(self._probe_interval_s * 2.0 ** min(worker.strikes - 2, 64), PROBE_CAP_S)
        while True:
            await asyncio.sleep(pause_s)
            if await self._probe(worker.worker_id):
                self._back(worker)
                return
            pause_s = self._probe_interval_s

    async def _after(self, worker: WorkerHealth, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self._back(worker)
