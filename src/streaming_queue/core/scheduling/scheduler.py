"""The scheduler of a run: each worker has slots, and a free slot takes the next question at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from streaming_queue.core.pool.worker_pool import WorkerPool
from streaming_queue.core.scheduling.attempts import Ask, Attempts
from streaming_queue.core.scheduling.auto import ProtocolChoice
from streaming_queue.core.scheduling.handoff import Handoff
from streaming_queue.core.scheduling.settings import SchedulerSettings
from streaming_queue.core.scheduling.waiting import waiting_text, why_down
from streaming_queue.errors import (
    ConnectError,
    DiskFullError,
    LeaseLostError,
    QueueClosedError,
    QueueStalledError,
    StreamingQueueError,
    UnavailableError,
)
from streaming_queue.queue.base import Lease, LeaseQueue
from streaming_queue.telemetry.events import EventListener, Waiting, WaitOver, WorkerJoined, WorkerLeft

__all__ = ["Ask", "Scheduler", "SchedulerSettings"]

LEASE_WAIT_S = 1.0
WAITING_TOLD_S = 30.0
"""Pause between two texts about one wait, in seconds."""


class Scheduler:
    """Gives a queue's questions to a pool of workers until `intake_done` is set and every question has ended."""

    def __init__(
        self,
        queue: LeaseQueue,
        ask: Ask,
        worker_ids: Sequence[str],
        *,
        probe: Callable[[str], Awaitable[bool]],
        protocol_of: Callable[[str], str],
        emit: EventListener,
        settings: SchedulerSettings,
        intake_done: asyncio.Event,
        choice: ProtocolChoice | None = None,
        down: Mapping[str, StreamingQueueError] | None = None,
    ) -> None:
        """`down` has the workers that did not answer their last probe, with the reasons."""
        self.paused = False
        self.waiting = ""
        """Why the run can only wait (`Waiting`); empty while it works."""
        self.may_end: Callable[[], Awaitable[bool]] | None = None
        """It decides whether all questions have ended: a question may just be given back."""
        self._queue = queue
        self._emit = emit
        self._settings = settings
        self._intake_done = intake_done
        self._tasks = asyncio.TaskGroup()
        self.pool = WorkerPool(
            {worker_id: settings.slots_of(worker_id) for worker_id in worker_ids},
            tasks=self._tasks,
            probe=probe,
            emit=emit,
            on_change=self._on_change,
            probe_interval_s=settings.probe_interval_s,
            gone_after_s=settings.gone_after_s,
            adaptive=settings.adaptive,
            degraded_pause_s=1 / (1 + settings.retry_per_s),  # as slow as the retry budget
        )
        self._attempts = Attempts(
            queue, ask, self.pool, protocol_of=protocol_of, emit=emit, settings=settings, choice=choice
        )
        self._handoff = Handoff[str, Lease](self._may_take)
        self._attempts.on_room = self._handoff.rematch
        self._choice = choice
        if choice:
            choice.on_change = self._handoff.rematch
        self._duplicates: set[str] = set()
        self._slots: dict[str, list[asyncio.Task[None]]] = {}
        self._news = asyncio.Event()
        self._draining = False
        self._over = False
        self._down_at_start = down or {}
        self._waiting_told_at = 0.0

    def drain(self) -> None:
        """Send no more questions: `run` returns when the questions in flight have ended, or after `drain_s`."""
        self._draining = True
        self._news.set()

    async def pause(self) -> None:
        """Send no questions until `unpause`: unsent leases go back, the questions in flight go on."""
        self.paused = True
        self._queue.pause()
        for lease in self._handoff.drop():
            with contextlib.suppress(LeaseLostError):
                await self._queue.release(lease)

    def unpause(self) -> None:
        """Send questions again."""
        self.paused = False
        self.pool.wait_anew()  # a run does not stop for a wait that its pause hid
        self._queue.resume()

    async def run(self) -> bool:
        """Work until all questions have ended (True) or the drain is over (False). Remaining leases go back.

        Raises:
            AuthError, QuotaError, ConfigError: no worker can work; the questions keep their place.
            UnavailableError: no worker was reachable for `no_worker_timeout_s`; the questions keep their place.
            QueueError: the queue failed.
        """
        try:
            async with self._tasks:
                helpers = [
                    self._tasks.create_task(self._feed(), name="scheduler:feed"),
                    self._tasks.create_task(self._keep_leases(), name="scheduler:keep-leases"),
                    self._tasks.create_task(self.pool.watch(), name="scheduler:watch"),
                ]
                for worker_id in self.pool.slots_in_turn():
                    self._open_slot(worker_id)
                for worker_id, reason in self._down_at_start.items():
                    self.pool.down_at_start(worker_id, reason)
                try:
                    return await self._until_over()
                finally:
                    self._over = True
                    for task in (*helpers, *chain.from_iterable(self._slots.values())):
                        task.cancel()
                    self.pool.stop()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._give_back()

    def figures(self) -> dict[str, Any]:
        """The decisions: `hedged` questions if hedging is on, each worker's `concurrency` if it is adaptive."""
        hedging, workers = self._attempts.hedging, self.pool.workers.values()
        figures: dict[str, Any] = {"hedged": hedging.duplicates} if hedging else {}
        if self._settings.adaptive:
            figures["concurrency"] = {each.worker_id: each.adaptive.limit for each in workers if each.adaptive}
        return figures

    # --- the end ---

    async def _until_over(self) -> bool:
        while not self._draining:
            if await self._all_ended():
                return True
            if error := self.pool.fatal_error:
                raise error
            self._wait_for_workers()
            self._attempts.expire()
            if self.pool.warming_up:
                self._on_change()
            at_the_end = self._intake_done.is_set() and not len(self._handoff)
            if at_the_end and self._attempts.hedging and not self.paused:
                self._handoff.invite(self._duplicate)
            # A question that waits for its retry, or becomes slow, wakes no task: check again soon.
            await self._wait(0.05 if at_the_end else 0.5)
        deadline = time.monotonic() + self._settings.drain_s
        self._handoff.rematch()
        while self._attempts.in_flight and (left_s := deadline - time.monotonic()) > 0:
            await self._wait(left_s)
        return await self._all_ended()

    async def _wait(self, timeout_s: float) -> None:
        """Wait until a worker changes, no question is in flight, or the drain begins; `timeout_s` at most."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()

    async def _all_ended(self) -> bool:
        idle = self._intake_done.is_set() and not self._attempts.in_flight and not len(self._handoff)
        ended = idle and (await self._queue.counts()).open == 0
        return ended and (self.may_end is None or await self.may_end())

    def _wait_for_workers(self) -> None:
        """Report that the run can only wait. Raises UnavailableError if it waits for longer than it may."""
        limit_s, since = self._settings.no_worker_timeout_s or None, self.pool.all_down_since
        can_only_wait = not self._attempts.in_flight and not self.paused
        workers = list(self.pool.workers.values())
        text = waiting_text(workers, None if since is None else limit_s) if can_only_wait else ""
        if can_only_wait and since is not None and limit_s and time.monotonic() - since >= limit_s:
            raise UnavailableError(
                f"no worker was reachable for {limit_s:g} s (scheduler.no_worker_timeout_s); last: {why_down(workers)}"
            )
        is_new = bool(text) != bool(self.waiting) or time.monotonic() - self._waiting_told_at > WAITING_TOLD_S
        if text != self.waiting and is_new:
            self.waiting, self._waiting_told_at = text, time.monotonic()
            self._emit(Waiting(text) if text else WaitOver())

    async def _give_back(self) -> None:
        # A question may be here twice: sent to two workers, or leased again while its old lease was in flight.
        for lease in (*self._handoff.drop(), *(attempt.lease for attempt in self._attempts.in_flight)):
            try:
                await self._queue.release(lease)
            except LeaseLostError:
                continue
            except (QueueClosedError, QueueStalledError, DiskFullError):
                break  # the next process voids all leases
        self._attempts.in_flight.clear()

    # --- leases ---

    async def _feed(self) -> None:
        settings = self._settings
        while not self._draining:
            await self._handoff.hungry(max(1, settings.batch_size // 2))
            if not self.pool.up:
                await self.pool.changed(LEASE_WAIT_S)
                continue
            for lease in await self._queue.lease(settings.batch_size - len(self._handoff), LEASE_WAIT_S):
                self._handoff.offer(lease)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            for lease in (*(attempt.lease for attempt in self._attempts.in_flight), *self._handoff):
                try:
                    await self._queue.extend(lease)
                except LeaseLostError:
                    continue

    # --- matching ---

    def _on_change(self) -> None:
        self._news.set()
        if self._choice:
            self._choice.reached(self.pool.up)
        self._handoff.rematch()

    def _may_take(self, worker_id: str, lease: Lease) -> bool:
        if self._draining or not self.pool.takes(worker_id, self._handoff.given(worker_id)):
            return False
        if not self._attempts.has_room(self._handoff.on_the_way_count):
            return False
        shunned = self._attempts.failed_at.get(lease.key)
        if shunned and shunned.issuperset(self.pool.up):
            shunned = None
        if shunned and worker_id in shunned:
            return False
        return self._choice is None or self._choice.grant(worker_id, shunned or ())

    def _duplicate(self, worker_id: str) -> Lease | None:
        """A slow question that an idle worker also gets."""
        if self._choice and not self._choice.is_free(worker_id):
            return None
        takes = self.pool.takes(worker_id, self._handoff.given(worker_id))
        lease = self._attempts.slowest(worker_id, but=self._duplicates) if takes else None
        if lease is None or worker_id in self._attempts.failed_at.get(lease.key, ()):
            return None
        self._duplicates.add(lease.key)
        return lease

    # --- workers join and leave ---

    def add_worker(self, worker_id: str) -> None:
        """Add a worker; idempotent, and without effect after the run's end."""
        if worker_id in self.pool.workers or self._over:
            return
        self.pool.add(worker_id, self._settings.slots_of(worker_id))
        for _ in range(self._settings.slots_of(worker_id)):
            self._open_slot(worker_id)
        self._emit(WorkerJoined(worker_id))

    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> None:
        """Drain a worker, and remove it when its questions have ended; with `at_once` they go to other workers."""
        if (worker := self.pool.workers.get(worker_id)) is None:
            return
        self.pool.drain(worker_id)
        if at_once:
            self.pool.give_up(worker_id, ConnectError(f"worker {worker_id!r} was removed"))
        while worker.busy:
            await self.pool.changed(LEASE_WAIT_S)
        if self.pool.workers.get(worker_id) is not worker:
            return  # another call removed this worker, and a worker with its name has joined since
        for slot in self._slots.pop(worker_id, ()):
            slot.cancel()
        self.pool.remove(worker_id)
        self._emit(WorkerLeft(worker_id))

    # --- the slots ---

    def _open_slot(self, worker_id: str) -> None:
        slots = self._slots.setdefault(worker_id, [])
        slots.append(self._tasks.create_task(self._slot(worker_id), name=f"slot:{worker_id}:{len(slots)}"))

    async def _slot(self, worker_id: str) -> None:
        attempts, handoff = self._attempts, self._handoff
        while True:
            lease = await handoff.take(worker_id)
            is_duplicate = lease.key in self._duplicates
            self._duplicates.discard(lease.key)
            await attempts.make(worker_id, lease, is_duplicate=is_duplicate)
            if not attempts.in_flight:
                self._news.set()
