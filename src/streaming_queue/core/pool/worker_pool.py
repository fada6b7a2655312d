"""The pool of workers: it decides which workers get questions and how many, and probes the lost workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from streaming_queue.comm.probing import StartingError
from streaming_queue.core.pool.adaptive_limit import AdaptiveLimit
from streaming_queue.core.pool.degraded_rate import PAUSE_S, DegradedRate
from streaming_queue.core.pool.in_flight_call import InFlightCall
from streaming_queue.core.pool.stall_detector import PROBE_TIMEOUT_S, StallDetector, Tasks
from streaming_queue.core.pool.worker_faults import UNFIT, WORKERS_OWN
from streaming_queue.core.pool.worker_health import WorkerHealth
from streaming_queue.errors import (
    ConnectError,
    RateLimitedError,
    StreamingQueueError,
)
from streaming_queue.telemetry.events import EventListener, Notice, WorkerDown, WorkerUp

PROBE_CAP_S = 30.0
GOOD_PROBES = 2
"""A lost worker is back after this many good probes in a row."""
AGAIN_S = 0.25
"""The pause between good probes, as a share of the interval."""
MOST_EJECTED = 0.5
"""The largest share of the living workers that the pool ejects for their failures at a time."""
RATE_LIMIT_PAUSE_S = 1.0
SHORTEST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 600.0
"""The longest pause that a worker's own wish gets: a worker that asks for a day is asked again after ten minutes."""


class WorkerPool:
    """The workers of a run. The pool probes a lost worker, with growing pauses, until the worker answers.

    The pool ejects a worker that keeps failing for a while (`Breaker`), at most half of the living workers at a time;
    if the others keep failing too, they go on slowly (`DegradedRate`). A worker that comes back gets one more slot with
    each answer, and all its slots within ten seconds, as long as other workers can take the rest.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        *,
        tasks: Tasks,
        probe: Callable[[str], Awaitable[bool]],
        emit: EventListener,
        on_change: Callable[[], None],
        probe_interval_s: float = 1.0,
        gone_after_s: float = 10.0,
        second_chance_s: float | None = None,
        adaptive: bool = False,
        degraded_pause_s: float = PAUSE_S,
    ) -> None:
        """`slots` is the most questions that each worker takes at a time; pauses and probes run in `tasks`.

        If a lost worker shows no sign of life for `gone_after_s`, the pool gives up its questions in flight. A worker
        that is out comes back after `second_chance_s` (None: never). With `adaptive` the pool finds the best number of
        questions for a worker.
        """
        self.workers: dict[str, WorkerHealth] = {}
        self.all_down_since: float | None = None
        """The time since which no worker can be reached (monotonic clock); None while a worker is up or only paused."""
        self._tasks = tasks
        self._probe = probe
        self._emit = emit
        self._on_change = on_change
        self._probe_interval_s = probe_interval_s
        self._gone_after_s = gone_after_s
        self._second_chance_s = second_chance_s
        self._adaptive = adaptive
        self._degraded_rate = DegradedRate(degraded_pause_s)
        self._rest: asyncio.TimerHandle | None = None
        self._probing: dict[str, asyncio.Task[None]] = {}
        self._calls: dict[InFlightCall, None] = {}
        self._stall_detector = StallDetector(
            self.workers, tasks=tasks, probe=self._is_healthy, lost=self.lost, interval_s=probe_interval_s
        )
        self._changed = asyncio.Event()
        for worker_id, count in slots.items():
            self._add(worker_id, count)

    # --- the workers ---

    def add(self, worker_id: str, slots: int) -> None:
        """Add a worker."""
        self._add(worker_id, slots)
        self.all_down_since = None
        self._wake()

    def _add(self, worker_id: str, slots: int) -> None:
        adaptive = AdaptiveLimit(slots) if self._adaptive else None
        self.workers[worker_id] = WorkerHealth(worker_id, slots, adaptive=adaptive)

    def wait_anew(self) -> None:
        """Count the time without a reachable worker from now on."""
        if self.all_down_since is not None:
            self.all_down_since = time.monotonic()

    def drain(self, worker_id: str) -> None:
        """Send a worker no more questions."""
        self.workers[worker_id].draining = True
        self._wake()

    def remove(self, worker_id: str) -> None:
        """Remove a worker."""
        del self.workers[worker_id]
        self._degraded_rate.end(worker_id)
        self._stop_probing(worker_id)
        self._stall_detector.forget(worker_id)
        self._note_all_down()
        self._wake()

    def slots_in_turn(self) -> Iterator[str]:
        """The worker of each slot, one slot of each worker after the other: a small batch goes to all workers."""
        for number in range(max((worker.slots for worker in self.workers.values()), default=0)):
            for worker in self.workers.values():
                if number < worker.slots:
                    yield worker.worker_id

    def takes(self, worker_id: str, given: int = 0) -> bool:
        """Whether the worker may get one more question now; `given` questions are assigned and not sent yet."""
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
        """Whether other workers can take the slots that a returning worker does not get yet."""
        return any(other.up and other.began_anew is None and not other.draining for other in self.workers.values())

    def states(self) -> dict[str, dict[str, Any]]:
        """For each worker: `state`, `busy` (questions in flight), `limit` (the most in flight), `answered`, `failed`.

        Also `reason` and `since` (ISO 8601) of a worker that is not up, else None.
        """
        spared = self._is_spared
        return {worker_id: worker.figures(spared=spared) for worker_id, worker in self.workers.items()}

    @property
    def warming_up(self) -> bool:
        """Whether a worker's limit still grows with time."""
        return any(worker.began_anew is not None for worker in self.workers.values())

    @property
    def up(self) -> list[str]:
        """The workers that may get questions."""
        return [worker.worker_id for worker in self.workers.values() if worker.up and not worker.draining]

    @property
    def fatal_error(self) -> StreamingQueueError | None:
        """The reason why a worker is out, if every worker is out."""
        errors = [worker.out for worker in self.workers.values()]
        return errors[-1] if errors and all(errors) else None

    async def changed(self, timeout_s: float) -> None:
        """Wait until a worker joins, leaves or drains, `timeout_s` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    @property
    def paused_s(self) -> float | None:
        """Seconds until the first paused worker takes questions again; None if no worker is paused."""
        moments = [worker.paused_until for worker in self.workers.values() if worker.paused_until is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    # --- the questions ---

    def asked(self, call: InFlightCall) -> None:
        """Note a question that is sent to its worker."""
        worker = self.workers[call.worker_id]
        if not worker.busy:
            worker.seen_at = time.monotonic()
        worker.busy += 1
        self._calls[call] = None
        if (rest_s := self._degraded_rate.asked(call.worker_id)) is not None:
            self._rest = asyncio.get_running_loop().call_later(rest_s, self._rested)

    def _rested(self) -> None:
        self._degraded_rate.rested()
        self._on_change()

    def left(self, call: InFlightCall) -> None:
        """Note that a question is no longer in flight."""
        del self._calls[call]
        if worker := self.workers.get(call.worker_id):
            worker.busy -= 1
            if worker.draining and not worker.busy:
                self._wake()

    def give_up(self, worker_id: str, reason: StreamingQueueError) -> None:
        """End the questions in flight at a worker for `reason`; its class decides whether they are asked again."""
        for call in [call for call in self._calls if call.worker_id == worker_id]:
            call.give_up(reason)

    def answered(self, worker_id: str, seconds: float) -> None:
        """Note an answer after `seconds`: it resets the worker's failures."""
        if (worker := self.workers.get(worker_id)) is None:
            return
        worker.strikes = 0
        worker.seen_at = time.monotonic()
        worker.proven, worker.answers = worker.proven + 1, worker.answers + 1
        was_degraded = self._degraded_rate.end(worker_id)
        if was_degraded and not self._degraded_rate:
            self._emit(Notice("info", "all workers that got one question at a time answer again"))
        grows = was_degraded or worker.breaker.half_open or worker.began_anew is not None
        worker.breaker.succeeded()
        if worker.adaptive is not None:
            before = worker.adaptive.limit
            worker.adaptive.answered(seconds, worker.busy)
            grows = grows or worker.adaptive.limit > before
        if grows:
            self._on_change()

    def blame(self, worker_id: str, error: StreamingQueueError, *, suspect: bool = False) -> bool:
        """Pause, probe or expel the worker if the worker caused the error; returns whether it did.

        False: the question seems to be the cause. Then the pool ejects the worker only if all questions fail there.
        A `suspect` question has failed before, and does not count against another worker.
        """
        if (worker := self.workers.get(worker_id)) is None:
            return isinstance(error, WORKERS_OWN)
        worker.failures += 1
        if isinstance(error, UNFIT):
            self.expel(worker_id, error)
        elif isinstance(error, ConnectError):
            self.lost(worker_id, error)
        elif isinstance(error, RateLimitedError):
            if worker.adaptive is not None:
                worker.adaptive.failed(worker.busy)
            wish_s = RATE_LIMIT_PAUSE_S if error.retry_after_s is None else error.retry_after_s
            self.pause(worker_id, min(max(SHORTEST_PAUSE_S, wish_s), LONGEST_PAUSE_S), str(error))
        else:
            worker.seen_at = time.monotonic()
            if not suspect:
                self._count_failure(worker, error)
            return False
        return True

    def forgive(self, worker_id: str) -> None:
        """Undo a failure: the question failed at another worker too, so the worker is not the cause."""
        if worker := self.workers.get(worker_id):
            worker.breaker.forgive()

    def _count_failure(self, worker: WorkerHealth, error: StreamingQueueError) -> None:
        if worker.adaptive is not None:
            worker.adaptive.failed(worker.busy)
        alive = [other for other in self.workers.values() if other.up or other.ejected]
        too_many = sum(other.ejected for other in alive) + 1 > MOST_EJECTED * len(alive)
        if not worker.breaker.failed() or not worker.up:
            return
        if too_many:
            if error.retryable and worker.breaker.keeps_failing and self._degraded_rate.begin(worker.worker_id):
                text = "all remaining workers keep failing, and now get one question at a time"
                self._emit(Notice("warning", f"{text}, last: {error}"))
            return
        cooldown_s = worker.breaker.open()
        worker.ejected = True
        reason = f"it keeps failing, last: {error}; next try in {cooldown_s:g} s"
        self.pause(worker.worker_id, cooldown_s, reason)

    def lost(self, worker_id: str, error: StreamingQueueError) -> None:
        """Note that a worker cannot be reached: it gets no questions until its probe succeeds."""
        worker = self.workers[worker_id]
        if not worker.up:
            return
        worker.strikes += 1
        self._down(worker, str(error), final=False)
        self._begin(worker, self._until_healthy(worker))

    def down_at_start(self, worker_id: str, error: StreamingQueueError) -> None:
        """Note that a worker did not answer before the first question: it is out, or probed until it answers."""
        if isinstance(error, UNFIT):
            self.expel(worker_id, error)
        else:
            self.lost(worker_id, error)

    def pause(self, worker_id: str, delay_s: float, reason: str) -> None:
        """Send a worker no questions for `delay_s`."""
        worker = self.workers[worker_id]
        if worker.up:
            worker.paused_until = time.monotonic() + delay_s
            self._down(worker, reason, final=False)
            self._begin(worker, self._after(worker, delay_s))

    def expel(self, worker_id: str, error: StreamingQueueError) -> None:
        """Note that a worker cannot work at all: wrong credentials, no quota, wrong configuration."""
        worker = self.workers[worker_id]
        if worker.out is None:
            worker.out, worker.paused_until = error, None
            self._stop_probing(worker_id)
            self._down(worker, str(error), final=True)
            if self._second_chance_s is not None:
                self._begin(worker, self._after(worker, self._second_chance_s))

    def readmit(self, worker_id: str) -> None:
        """Give an expelled worker another chance."""
        worker = self.workers[worker_id]
        if worker.out is not None:
            self._stop_probing(worker_id)
            self._back(worker)

    async def watch(self) -> None:
        """See `StallDetector.watch`."""
        await self._stall_detector.watch()

    async def _is_healthy(self, worker: WorkerHealth) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self._probe(worker.worker_id)
        except TimeoutError:
            return False
        except StartingError:  # the backend bounds this wait
            self.wait_anew()
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
            worker.since, worker.down_at = datetime.now(UTC), time.monotonic()
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
        worker.up, worker.ejected, worker.proven = True, False, 0
        worker.out = worker.paused_until = worker.reason = worker.since = worker.down_at = None
        worker.began_anew = worker.seen_at = time.monotonic()
        self.all_down_since = None
        self._emit(WorkerUp(worker.worker_id))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_change()

    async def _until_healthy(self, worker: WorkerHealth) -> None:
        # The first probe is soon, since a connection may just have been reset. A worker that answers its probe but
        # drops every question (strikes) waits longer each time, so that it cannot use up the queue's attempts.
        interval_s = self._probe_interval_s
        pause_s = min(interval_s * 2.0 ** min(worker.strikes - 2, 64), PROBE_CAP_S)
        good = 0
        while good < GOOD_PROBES:
            await asyncio.sleep(pause_s)
            good = good + 1 if await self._is_healthy(worker) else 0
            pause_s = AGAIN_S * interval_s if good else interval_s
            if not good and worker.busy and time.monotonic() - worker.seen_at >= self._gone_after_s:
                silence = f"worker {worker.worker_id!r} has shown no sign of life for {self._gone_after_s:g} s"
                self.give_up(worker.worker_id, ConnectError(silence))
        self._back(worker)

    async def _after(self, worker: WorkerHealth, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self._back(worker)

    def _begin(self, worker: WorkerHealth, waiting: Coroutine[None, None, None]) -> None:
        task = self._tasks.create_task(waiting, name=f"back:{worker.worker_id}")
        self._probing[worker.worker_id] = task

    def _stop_probing(self, worker_id: str) -> None:
        if probing := self._probing.pop(worker_id, None):
            probing.cancel()
