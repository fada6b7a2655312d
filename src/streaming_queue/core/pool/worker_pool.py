"""The worker pool as the scheduler sees it: who may be asked now and how much, who is probed until it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from streaming_queue.comm.probing import StartingError
from streaming_queue.core.pool.adaptive_limit import AdaptiveLimit
from streaming_queue.core.pool.degraded_rate import PAUSE_S, DegradedRate
from streaming_queue.core.pool.stall_detector import PROBE_TIMEOUT_S, StallDetector, Tasks
from streaming_queue.core.pool.worker_health import WorkerHealth
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
from streaming_queue.telemetry.events import Listener, Notice, WorkerDown, WorkerUp

PROBE_CAP_S = 30.0
GOOD_PROBES = 2
"""Probes in a row that bring a worker back."""
AGAIN_S = 0.25
"""Between these, as a share of the interval."""
MOST_EJECTED = 0.5
"""The share of the workers alive that may be left alone for their failures at a time."""
RATE_LIMIT_PAUSE_S = 1.0
SHORTEST_PAUSE_S = 0.1

UNFIT = (AuthError, QuotaError, ConfigError, UnknownAgentError, UnreachableError, BackendClosedError)
"""What no other question will change: the worker is out for this round."""
WORKERS_OWN = (*UNFIT, ConnectError, RateLimitedError)
"""What says something of the worker and nothing of the question."""


class WorkerPool:
    """Which workers may be asked. A lost worker is probed, with growing pauses, until it answers.

    A worker that keeps failing is left alone for a while (`Breaker`), never more than half of those alive at a time;
    where the others keep failing, too, they go on slowly (`DegradedRate`).
    One that comes back is given more with each answer, and all within ten seconds, as long as others can take the rest.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        *,
        probe: Callable[[str], Awaitable[bool]],
        emit: Listener,
        on_change: Callable[[], None],
        on_gone: Callable[[str, StreamingQueueError], None] | None = None,
        probe_interval_s: float = 1.0,
        gone_after_s: float = 10.0,
        adaptive: bool = False,
        degraded_pause_s: float = PAUSE_S,
    ) -> None:
        """`slots` is how many questions each worker takes at a time at the most.

        `on_gone` is told of a worker whose questions under way are given up: it has shown no sign of life for
        `gone_after_s`. `adaptive` has the pool find out how many questions a worker takes best.
        """
        self.workers: dict[str, WorkerHealth] = {}
        self.all_down_since: float | None = None
        """Since when no worker can be reached, by the monotonic clock; None while one is up or merely paused."""
        self._probe = probe
        self._emit = emit
        self._on_change = on_change
        self._on_gone = on_gone
        self._probe_interval_s = probe_interval_s
        self._gone_after_s = gone_after_s
        self._adaptive = adaptive
        self._degraded_rate = DegradedRate(degraded_pause_s)
        self._rest: asyncio.TimerHandle | None = None
        self._probing: dict[str, asyncio.Task[None]] = {}
        self._stall_detector = StallDetector(
            self.workers, probe=self._is_healthy, lost=self.lost, interval_s=probe_interval_s
        )
        self._changed = asyncio.Event()
        for worker_id, count in slots.items():
            self._add(worker_id, count)

    # --- who is there ---

    def add(self, worker_id: str, slots: int) -> None:
        """A worker joins."""
        self._add(worker_id, slots)
        self.all_down_since = None
        self._wake()

    def _add(self, worker_id: str, slots: int) -> None:
        adaptive = AdaptiveLimit(slots) if self._adaptive else None
        self.workers[worker_id] = WorkerHealth(worker_id, slots, adaptive=adaptive)

    def drain(self, worker_id: str) -> None:
        """Ask a worker nothing more."""
        self.workers[worker_id].draining = True
        self._wake()

    def remove(self, worker_id: str) -> None:
        """Forget a worker."""
        del self.workers[worker_id]
        self._degraded_rate.end(worker_id)
        if probing := self._probing.pop(worker_id, None):
            probing.cancel()
        self._stall_detector.forget(worker_id)
        self._note_all_down()
        self._wake()

    def is_up(self, worker_id: str) -> bool:
        """Whether the worker may be asked."""
        return self.workers[worker_id].up

    def takes(self, worker_id: str, given: int = 0) -> bool:
        """Whether the worker may be asked one question more now; it was `given` some that are not under way yet."""
        worker = self.workers.get(worker_id)
        if (
            worker is None
            or not worker.up
            or worker.draining
            or not self._degraded_rate.takes(worker_id, worker.busy + given)
        ):
            return False
        if worker.began_anew is None and worker.adaptive is None:
            return True
        return worker.busy + given < worker.limit(spared=self._is_spared)

    @property
    def _is_spared(self) -> bool:
        """Whether somebody takes what a worker is not given yet that came back."""
        return any(other.up and other.began_anew is None and not other.draining for other in self.workers.values())

    def states(self) -> dict[str, dict[str, Any]]:
        """For each worker: its state in a word, the questions under way and how many may be, answers and failures.

        Where it is not up also why (`reason`), and since when (`since`, ISO 8601).
        """
        return {
            worker.worker_id: {
                "state": worker.state,
                "busy": worker.busy,
                "limit": worker.limit(spared=self._is_spared),
                "answered": worker.answers,
                "failed": worker.failures,
                "reason": worker.reason,
                "since": None if worker.since is None else worker.since.isoformat(timespec="milliseconds"),
            }
            for worker in self.workers.values()
        }

    @property
    def warming_up(self) -> bool:
        """Whether a worker's limit grows with the time."""
        return any(worker.began_anew is not None for worker in self.workers.values())

    @property
    def up(self) -> list[str]:
        """The workers that may be asked."""
        return [worker.worker_id for worker in self.workers.values() if worker.up and not worker.draining]

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

    # --- what is heard of them ---

    def asked(self, worker_id: str) -> None:
        """A question leaves for a worker."""
        worker = self.workers[worker_id]
        if not worker.busy:
            worker.seen_at = time.monotonic()
        worker.busy += 1
        if (rest_s := self._degraded_rate.asked(worker_id)) is not None:
            self._rest = asyncio.get_running_loop().call_later(rest_s, self._rested)

    def _rested(self) -> None:
        self._degraded_rate.rested()
        self._on_change()

    def left(self, worker_id: str) -> None:
        """A question that was under way at a worker has ended, however."""
        if worker := self.workers.get(worker_id):
            worker.busy -= 1

    def answered(self, worker_id: str, seconds: float) -> None:
        """A worker gave an answer after `seconds`: whatever was held against it is forgotten."""
        if (worker := self.workers.get(worker_id)) is None:
            return
        worker.strikes = 0
        worker.seen_at = time.monotonic()
        worker.proven += 1
        worker.answers += 1
        was_degraded = self._degraded_rate.end(worker_id)
        if was_degraded and not self._degraded_rate:
            self._emit(Notice("info", "every worker that was asked one question at a time answers again"))
        grows = was_degraded or worker.breaker.half_open or worker.began_anew is not None
        worker.breaker.succeeded()
        if worker.adaptive is not None:
            before = worker.adaptive.limit
            worker.adaptive.answered(seconds, worker.busy)
            grows = grows or worker.adaptive.limit > before
        if grows:
            self._on_change()

    def blame(self, worker_id: str, error: StreamingQueueError, tasks: Tasks, *, suspect: bool = False) -> bool:
        """Ask the worker nothing for a while, or any more, where the error is its own and not the question's.

        False: it is the question's, as far as can be told; a worker that all questions fail at is left alone, too.
        A `suspect` question has failed before, and is not held against another worker. What has to be waited for is
        waited for in `tasks`.
        """
        if (worker := self.workers.get(worker_id)) is None:
            return isinstance(error, WORKERS_OWN)
        worker.failures += 1
        if isinstance(error, UNFIT):
            self.expel(worker_id, error)
        elif isinstance(error, ConnectError):
            self.lost(worker_id, error, tasks)
        elif isinstance(error, RateLimitedError):
            if worker.adaptive is not None:
                worker.adaptive.failed(worker.busy)
            wish_s = RATE_LIMIT_PAUSE_S if error.retry_after_s is None else error.retry_after_s
            self.pause(worker_id, max(SHORTEST_PAUSE_S, wish_s), str(error), tasks)
        else:
            worker.seen_at = time.monotonic()
            if not suspect:
                self._count_failure(worker, error, tasks)
            return False
        return True

    def forgive(self, worker_id: str) -> None:
        """A question that failed at this worker failed elsewhere, too: it was not the worker's fault."""
        if worker := self.workers.get(worker_id):
            worker.breaker.forgive()

    def _count_failure(self, worker: WorkerHealth, error: StreamingQueueError, tasks: Tasks) -> None:
        if worker.adaptive is not None:
            worker.adaptive.failed(worker.busy)
        alive = [other for other in self.workers.values() if other.up or other.ejected]
        too_many = sum(other.ejected for other in alive) + 1 > MOST_EJECTED * len(alive)
        if not worker.breaker.failed() or not worker.up:
            return
        if too_many:
            if error.retryable and worker.breaker.keeps_failing and self._degraded_rate.begin(worker.worker_id):
                told = "every worker that may still be asked keeps failing, and is asked one question at a time"
                self._emit(Notice("warning", f"{told}, last: {error}"))
            return
        cooldown_s = worker.breaker.open()
        worker.ejected = True
        reason = f"it keeps failing, last: {error}; it is tried again in {cooldown_s:g} s"
        self.pause(worker.worker_id, cooldown_s, reason, tasks)

    def lost(self, worker_id: str, error: StreamingQueueError, tasks: Tasks) -> None:
        """A worker cannot be reached: it is asked nothing until a probe, run in `tasks`, finds it healthy."""
        worker = self.workers[worker_id]
        if not worker.up:
            return
        worker.strikes += 1
        self._down(worker, str(error), final=False)
        self._probing[worker_id] = tasks.create_task(self._until_healthy(worker), name=f"probe:{worker_id}")

    def pause(self, worker_id: str, delay_s: float, reason: str, tasks: Tasks) -> None:
        """Leave a worker alone for `delay_s`: it asks to slow down, say."""
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

    async def watch(self, tasks: Tasks) -> None:
        """See `StallDetector.watch`."""
        await self._stall_detector.watch(tasks)

    async def _is_healthy(self, worker: WorkerHealth) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self._probe(worker.worker_id)
        except TimeoutError:
            return False
        except StartingError:  # it has the time that its backend gives it, however long no other worker is there
            if self.all_down_since is not None:
                self.all_down_since = time.monotonic()
            return False

    def stop(self) -> None:
        """Cancel every probe."""
        if self._rest is not None:
            self._rest.cancel()
        for task in self._probing.values():
            task.cancel()
        self._stall_detector.stop()

    # --- down and back ---

    def _down(self, worker: WorkerHealth, reason: str, *, final: bool) -> None:
        if worker.up:
            worker.since = datetime.now(UTC)
        worker.up, worker.reason = False, reason
        self._degraded_rate.end(worker.worker_id)
        self._note_all_down()
        self._emit(WorkerDown(worker.worker_id, reason, final))
        self._wake()

    def _note_all_down(self) -> None:
        if self.all_down_since is None and not any(
            other.up or other.paused_until is not None for other in self.workers.values()
        ):
            self.all_down_since = time.monotonic()

    def _back(self, worker: WorkerHealth) -> None:
        self._probing.pop(worker.worker_id, None)
        if worker.out is None:
            worker.up, worker.paused_until, worker.ejected = True, None, False
            worker.reason = worker.since = None
            worker.began_anew = worker.seen_at = time.monotonic()
            worker.proven = 0
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
        interval_s = self._probe_interval_s
        pause_s = min(interval_s * 2.0 ** min(worker.strikes - 2, 64), PROBE_CAP_S)
        good = 0
        while good < GOOD_PROBES:
            await asyncio.sleep(pause_s)
            good = good + 1 if await self._is_healthy(worker) else 0
            pause_s = AGAIN_S * interval_s if good else interval_s
            if not good and worker.busy and time.monotonic() - worker.seen_at >= self._gone_after_s:
                self._give_up(worker)
        self._back(worker)

    def _give_up(self, worker: WorkerHealth) -> None:
        if self._on_gone is not None:
            told = f"worker {worker.worker_id!r} has shown no sign of life for {self._gone_after_s:g} s"
            self._on_gone(worker.worker_id, ConnectError(told))

    async def _after(self, worker: WorkerHealth, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self._back(worker)
