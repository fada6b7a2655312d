"""Pull, never split: each worker has slots, a slot that frees takes the next question at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from streaming_queue.core.pool.worker_pool import WorkerPool
from streaming_queue.core.scheduling.attempts import Ask, Attempts
from streaming_queue.core.scheduling.auto import ProtocolChoice
from streaming_queue.core.scheduling.handoff import Handoff
from streaming_queue.core.scheduling.settings import SchedulerSettings
from streaming_queue.core.unhealthy import MOST_NAMES
from streaming_queue.errors import ConnectError, LeaseLostError, QueueClosedError, StreamingQueueError
from streaming_queue.messages import Failure
from streaming_queue.queue.base import Lease, WorkQueue
from streaming_queue.telemetry.events import Listener, WorkerJoined, WorkerLeft

__all__ = ["Ask", "Scheduler", "SchedulerSettings"]

LEASE_WAIT_S = 1.0


class Scheduler:
    """Works a queue down with a pool of workers until `intake_done` is set and every question has ended."""

    def __init__(
        self,
        queue: WorkQueue,
        ask: Ask,
        worker_ids: Sequence[str],
        *,
        probe: Callable[[str], Awaitable[bool]],
        protocol_of: Callable[[str], str],
        emit: Listener,
        settings: SchedulerSettings,
        intake_done: asyncio.Event,
        choice: ProtocolChoice | None = None,
    ) -> None:
        self.paused = False
        self.may_end: Callable[[], Awaitable[bool]] | None = None
        """Decides when all questions have ended: a question may just be put back."""
        self._queue = queue
        self._emit = emit
        self._settings = settings
        self._intake_done = intake_done
        self.pool = WorkerPool(
            {worker_id: settings.slots_of(worker_id) for worker_id in worker_ids},
            probe=probe,
            emit=emit,
            on_change=self._rematch,
            on_gone=self._gone,
            probe_interval_s=settings.probe_interval_s,
            gone_after_s=settings.gone_after_s,
            adaptive=settings.adaptive,
            degraded_pause_s=1
            / (1 + settings.retry_per_s),  # so that nothing is held up that the budget does not hold up
        )
        self._attempts = Attempts(
            queue, ask, self.pool, protocol_of=protocol_of, emit=emit, settings=settings, choice=choice
        )
        self._handoff = Handoff[str, Lease](self._may_take)
        self._choice = choice
        if choice:
            choice.on_change = self._handoff.rematch
        self._duplicates: set[str] = set()
        self._slots: dict[str, list[asyncio.Task[None]]] = {}
        self._became_idle = asyncio.Event()
        self._draining = asyncio.Event()
        self._over = False
        self._tasks: asyncio.TaskGroup

    def drain(self) -> None:
        """Take on nothing new: `run` returns when what is in flight has ended, after `drain_s` at the most."""
        self._draining.set()

    async def pause(self) -> None:
        """Hand out nothing until `unpause`: what was leased ahead goes back, what is in flight goes on."""
        self.paused = True
        self._queue.pause()
        for lease in self._handoff.drop():
            with contextlib.suppress(LeaseLostError):
                await self._queue.release(lease)

    def unpause(self) -> None:
        """Hand questions out again."""
        self.paused = False
        self._queue.resume()

    async def run(self) -> bool:
        """Work until everything has ended (True) or the drain is over (False). What it still holds is given back.

        Raises:
            AuthError, QuotaError, ConfigError: no worker is left that can work; the questions keep their place.
            QueueError: the queue failed.
        """
        try:
            async with asyncio.TaskGroup() as self._tasks:
                helpers = [
                    self._tasks.create_task(self._feed(), name="scheduler:feed"),
                    self._tasks.create_task(self._keep_leases(), name="scheduler:keep-leases"),
                    self._tasks.create_task(self.pool.watch(self._tasks), name="scheduler:watch"),
                ]
                # One slot of each worker after the other: a small batch goes to all of them.
                for number in range(max(map(self._settings.slots_of, self.pool.workers), default=0)):
                    for worker_id in self.pool.workers:
                        if number < self._settings.slots_of(worker_id):
                            self._open_slot(worker_id)
                try:
                    return await self._until_over()
                finally:
                    self._over = True
                    for task in (*helpers, *(slot for slots in self._slots.values() for slot in slots)):
                        task.cancel()
                    self.pool.stop()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._give_back()

    def figures(self) -> dict[str, Any]:
        """What it decided: `hedged` questions, where it may, and the `concurrency` found for each worker."""
        figures: dict[str, Any] = {}
        if self._attempts.hedging:
            figures["hedged"] = self._attempts.hedging.duplicates
        if self._settings.adaptive:
            limits = {
                worker.worker_id: worker.adaptive.limit for worker in self.pool.workers.values() if worker.adaptive
            }
            figures["concurrency"] = limits
        return figures

    # --- the end ---

    async def _until_over(self) -> bool:
        while not self._draining.is_set():
            if await self._all_ended():
                return True
            if error := self.pool.fatal_error:
                raise error
            await self._bury_without_workers()
            if self.pool.warming_up:
                self._rematch()
            at_the_end = self._intake_done.is_set() and not len(self._handoff)
            if at_the_end and self._attempts.hedging and not self.paused:
                self._handoff.invite(self._duplicate)
            # Questions that wait for their retry, or become slow, are nobody's news: then look again soon.
            timeout_s = 0.05 if at_the_end else 0.5
            self._became_idle.clear()
            await _either(
                self._became_idle.wait(), self._draining.wait(), self.pool.changed(timeout_s), timeout_s=timeout_s
            )
        deadline = time.monotonic() + self._settings.drain_s
        self._handoff.rematch()
        while self._attempts.under_way and (left_s := deadline - time.monotonic()) > 0:
            self._became_idle.clear()
            await _either(self._became_idle.wait(), timeout_s=left_s)
        return await self._all_ended()

    @property
    def _idle(self) -> bool:
        return not self._attempts.under_way and not len(self._handoff)

    async def _all_ended(self) -> bool:
        ended = self._intake_done.is_set() and self._idle and (await self._queue.counts()).open == 0
        return ended and (self.may_end is None or await self.may_end())

    async def _bury_without_workers(self) -> None:
        since = self.pool.all_down_since
        if since is None or time.monotonic() - since < self._settings.no_worker_timeout_s or self._attempts.under_way:
            return
        reason = Failure(
            ConnectError.__name__,
            f"no worker was reachable for {self._settings.no_worker_timeout_s:g} s (scheduler.no_worker_timeout_s); "
            f"last: {self._why_down()}",
        )
        leases = self._handoff.drop() or await self._queue.lease(self._settings.batch_size)
        while leases:
            for lease in leases:
                if self.pool.all_down_since is None or self._draining.is_set():
                    self._handoff.offer(lease)
                else:
                    with contextlib.suppress(LeaseLostError):
                        await self._attempts.bury(lease, reason)
            if len(self._handoff) or self.pool.all_down_since is None or self._draining.is_set():
                return
            leases = await self._queue.lease(self._settings.batch_size)

    def _why_down(self) -> str:
        workers = list(self.pool.workers.values())
        more = [f"and {len(workers) - MOST_NAMES} more"] if len(workers) > MOST_NAMES else []
        return "; ".join([f"{each.worker_id} is down: {each.reason}" for each in workers[:MOST_NAMES]] + more)

    async def _give_back(self) -> None:
        # A question may be here twice: asked of two workers, or leased again while an old lease of it was under way.
        for lease in (*self._handoff.drop(), *(attempt.lease for attempt in self._attempts.under_way)):
            try:
                await self._queue.release(lease)
            except LeaseLostError:
                continue
            except QueueClosedError:
                break
        self._attempts.forget()

    # --- leases ---

    async def _feed(self) -> None:
        settings = self._settings
        while not self._draining.is_set():
            await self._handoff.hungry(max(1, settings.batch_size // 2))
            if not self.pool.up:
                await self.pool.changed(LEASE_WAIT_S)
                continue
            for lease in await self._queue.lease(settings.batch_size - len(self._handoff), LEASE_WAIT_S):
                self._handoff.offer(lease)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            for lease in (*(attempt.lease for attempt in self._attempts.under_way), *self._handoff):
                try:
                    await self._queue.extend(lease)
                except LeaseLostError:
                    continue

    # --- who takes what ---

    def _rematch(self) -> None:
        if self._choice:
            self._choice.reached(self.pool.up)
        self._handoff.rematch()

    def _may_take(self, worker_id: str, lease: Lease) -> bool:
        if self._draining.is_set() or not self.pool.takes(worker_id, self._handoff.given(worker_id)):
            return False
        shunned = self._attempts.failed_at.get(lease.id)
        if shunned and shunned.issuperset(self.pool.up):
            shunned = None
        if shunned and worker_id in shunned:
            return False
        return self._choice is None or self._choice.grant(worker_id, shunned or ())

    def _duplicate(self, worker_id: str) -> Lease | None:
        """A slow question for an idle worker to answer, too."""
        if self._choice and not self._choice.is_free(worker_id):
            return None
        takes = self.pool.takes(worker_id, self._handoff.given(worker_id))
        lease = self._attempts.slowest(worker_id, but=self._duplicates) if takes else None
        if lease is None or worker_id in self._attempts.failed_at.get(lease.id, ()):
            return None
        self._duplicates.add(lease.id)
        return lease

    def _gone(self, worker_id: str, error: StreamingQueueError) -> None:
        self._attempts.give_up(worker_id, error)

    # --- who joins and leaves ---

    def add_worker(self, worker_id: str) -> None:
        """Have a worker take part from now on; nothing happens if it does already, or when the round is over."""
        if worker_id in self.pool.workers or self._over:
            return
        self.pool.add(worker_id, self._settings.slots_of(worker_id))
        for _ in range(self._settings.slots_of(worker_id)):
            self._open_slot(worker_id)
        self._emit(WorkerJoined(worker_id))

    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> None:
        """Ask a worker nothing more, and have it leave when its questions have ended; `at_once` they go elsewhere."""
        if (worker := self.pool.workers.get(worker_id)) is None:
            return
        self.pool.drain(worker_id)
        if at_once:
            self._attempts.give_up(worker_id, ConnectError(f"worker {worker_id!r} was removed"))
        while any(attempt.worker_id == worker_id for attempt in self._attempts.under_way):
            await self._attempts.ended()
        if self.pool.workers.get(worker_id) is not worker:
            return  # it was removed meanwhile; who bears its name now has joined since
        for slot in self._slots.pop(worker_id, ()):
            slot.cancel()
        self.pool.remove(worker_id)
        self._emit(WorkerLeft(worker_id))

    # --- the slots ---

    def _open_slot(self, worker_id: str) -> None:
        slots = self._slots.setdefault(worker_id, [])
        slots.append(self._tasks.create_task(self._slot(worker_id), name=f"slot:{worker_id}:{len(slots)}"))

    async def _slot(self, worker_id: str) -> None:
        attempts, handoff, task = self._attempts, self._handoff, asyncio.current_task()
        if task is None:
            raise RuntimeError("a slot is a task of its own")
        while True:
            lease = await handoff.take(worker_id)
            is_duplicate = lease.id in self._duplicates
            self._duplicates.discard(lease.id)
            await attempts.make(worker_id, lease, task, self._tasks, is_duplicate=is_duplicate)
            if not attempts.under_way:
                self._became_idle.set()


async def _either(*waits: Awaitable[Any], timeout_s: float) -> None:
    """Wait until one of `waits` ends, `timeout_s` at the most; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
