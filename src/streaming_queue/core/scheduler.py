"""Pull, never split: each worker has slots, a slot that frees takes the next question at once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streaming_queue.core.dispenser import Dispenser
from streaming_queue.core.health import WorkerPool
from streaming_queue.errors import ConnectError, LeaseLostError, QueueClosedError, StreamingQueueError
from streaming_queue.messages import Failure, Result
from streaming_queue.queue.base import Lease, WorkQueue
from streaming_queue.telemetry.events import Answered, Buried, Duplicate, Listener, Retried, Sent

LEASE_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """What the scheduler may do. `batch_size` is how many leases it takes and keeps ahead of the slots.

    `slots` is how many questions may be in flight at a worker, `concurrency` where it names none.
    """

    concurrency: int = 8
    slots: Mapping[str, int] = field(default_factory=dict)
    batch_size: int = 64
    max_attempts: int = 5
    retry_base_s: float = 0.1
    retry_cap_s: float = 5.0
    no_worker_timeout_s: float = 30.0
    drain_s: float = 30.0
    lease_s: float = 60.0
    probe_interval_s: float = 1.0

    def slots_of(self, worker_id: str) -> int:
        """How many questions may be in flight at a worker."""
        return self.slots.get(worker_id, self.concurrency)


Ask = Callable[[str, Lease], Awaitable[tuple[str, Mapping[str, Any]]]]
"""Ask a worker a leased question: its answer and the metadata that came back. Raises StreamingQueueError."""


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
    ) -> None:
        self._queue = queue
        self._ask = ask
        self._protocol_of = protocol_of
        self._emit = emit
        self._settings = settings
        self._intake_done = intake_done
        self._pool = WorkerPool(
            worker_ids, probe=probe, emit=emit, on_change=self._rematch, probe_interval_s=settings.probe_interval_s
        )
        self._dispenser = Dispenser[str, Lease](self._may_take)
        self._failed_at: dict[str, set[str]] = {}
        self._in_flight: dict[str, Lease] = {}
        self._became_idle = asyncio.Event()
        self._draining = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    def drain(self) -> None:
        """Take on nothing new: `run` returns when what is in flight has ended, after `drain_s` at the most."""
        self._draining.set()

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
                ]
                slots = [
                    self._tasks.create_task(self._slot(worker_id), name=f"slot:{worker_id}:{number}")
                    for number in range(max(map(self._settings.slots_of, self._pool.workers), default=0))
                    for worker_id in self._pool.workers
                    if number < self._settings.slots_of(worker_id)
                ]
                try:
                    return await self._until_over()
                finally:
                    for task in (*helpers, *slots):
                        task.cancel()
                    self._pool.stop()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._give_back()

    # --- the end ---

    async def _until_over(self) -> bool:
        while not self._draining.is_set():
            if await self._all_ended():
                return True
            if error := self._pool.fatal_error:
                raise error
            await self._bury_without_workers()
            # Questions that wait for their retry are nobody's news: then look again soon.
            timeout_s = 0.05 if self._idle and self._intake_done.is_set() else 0.5
            self._became_idle.clear()
            await _either(
                self._became_idle.wait(), self._draining.wait(), self._pool.changed(timeout_s), timeout_s=timeout_s
            )
        deadline = time.monotonic() + self._settings.drain_s
        self._dispenser.rematch()
        while self._in_flight and (left_s := deadline - time.monotonic()) > 0:
            self._became_idle.clear()
            await _either(self._became_idle.wait(), timeout_s=left_s)
        return await self._all_ended()

    @property
    def _idle(self) -> bool:
        return not self._in_flight and not len(self._dispenser)

    async def _all_ended(self) -> bool:
        return self._intake_done.is_set() and self._idle and (await self._queue.counts()).open == 0

    async def _bury_without_workers(self) -> None:
        since = self._pool.all_down_since
        if since is None or time.monotonic() - since < self._settings.no_worker_timeout_s or self._in_flight:
            return
        reason = Failure(
            ConnectError.__name__,
            f"no worker was reachable for {self._settings.no_worker_timeout_s:g} s (scheduler.no_worker_timeout_s); "
            "last: " + "; ".join(f"{worker_id} is down" for worker_id in self._pool.workers),
        )
        leases = self._dispenser.drop()
        while leases:
            for lease in leases:
                if self._pool.all_down_since is None or self._draining.is_set():
                    self._dispenser.offer(lease)
                else:
                    with contextlib.suppress(LeaseLostError):
                        await self._bury(lease, reason)
            if len(self._dispenser) or self._pool.all_down_since is None or self._draining.is_set():
                return
            leases = await self._queue.lease(self._settings.batch_size)

    async def _give_back(self) -> None:
        for lease in (*self._dispenser.drop(), *self._in_flight.values()):
            try:
                await self._queue.release(lease)
            except LeaseLostError:
                continue
            except QueueClosedError:
                break
        self._in_flight.clear()

    # --- leases ---

    async def _feed(self) -> None:
        settings = self._settings
        while not self._draining.is_set():
            await self._dispenser.hungry(max(1, settings.batch_size // 2))
            if not self._pool.up:
                await self._pool.changed(LEASE_WAIT_S)
                continue
            for lease in await self._queue.lease(settings.batch_size - len(self._dispenser), LEASE_WAIT_S):
                self._dispenser.offer(lease)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            for lease in (*self._in_flight.values(), *self._dispenser):
                try:
                    await self._queue.extend(lease)
                except LeaseLostError:
                    continue

    def _rematch(self) -> None:
        self._dispenser.rematch()

    def _may_take(self, worker_id: str, lease: Lease) -> bool:
        if self._draining.is_set() or not self._pool.is_up(worker_id):
            return False
        failed_at = self._failed_at.get(lease.id)
        return not failed_at or worker_id not in failed_at or failed_at.issuperset(self._pool.up)

    # --- one question ---

    async def _slot(self, worker_id: str) -> None:
        while True:
            lease = await self._dispenser.take(worker_id)
            self._in_flight[lease.id] = lease
            await self._work(worker_id, lease)
            self._in_flight.pop(lease.id, None)
            if not self._in_flight:
                self._became_idle.set()

    async def _work(self, worker_id: str, lease: Lease) -> None:
        self._emit(Sent(lease.id, worker_id, lease.attempt))
        queue_ms = lease.waited_ms + (time.monotonic() - lease.leased_at) * 1000
        started = time.perf_counter()
        try:
            answer, metadata = await self._ask(worker_id, lease)
        except StreamingQueueError as error:
            await self._failed(worker_id, lease, error, time.perf_counter() - started)
            return
        seconds = time.perf_counter() - started
        result = self._result(worker_id, lease, answer, metadata, queue_ms=queue_ms, seconds=seconds)
        self._pool.answered(worker_id)
        self._failed_at.pop(lease.id, None)
        if await self._queue.commit(lease, result):
            self._emit(Answered(lease.id, result, lease.attempt))
        else:
            self._emit(Duplicate(lease.id, worker_id))

    def _result(
        self,
        worker_id: str,
        lease: Lease,
        answer: str,
        metadata: Mapping[str, Any],
        *,
        queue_ms: float,
        seconds: float,
    ) -> Result:
        llm_ms = _number(metadata.get("llm_ms"))
        model, mock, usage = metadata.get("model"), metadata.get("mock"), metadata.get("usage")
        return Result(
            answer=answer,
            worker=worker_id,
            protocol=self._protocol_of(worker_id),
            response_time_s=seconds,
            queue_ms=queue_ms,
            protocol_ms=None if llm_ms is None else max(0.0, seconds * 1000 - llm_ms),
            llm_ms=llm_ms,
            ttft_ms=_number(metadata.get("ttft_ms")),
            request_bytes=len(lease.question.text.encode()),
            response_bytes=len(answer.encode()),
            model=model if isinstance(model, str) else None,
            mock=mock if isinstance(mock, bool) else None,
            usage=usage if isinstance(usage, Mapping) else None,
        )

    async def _failed(self, worker_id: str, lease: Lease, error: StreamingQueueError, seconds: float) -> None:
        """Retry, give back or bury, by the class of the error."""
        failure = Failure.of(error, worker=worker_id, protocol=self._protocol_of(worker_id), response_time_s=seconds)
        try:
            if self._pool.blame(worker_id, error, self._tasks):
                lost = isinstance(error, ConnectError)
                if lost and lease.losses + 1 >= self._settings.max_attempts:
                    await self._bury(lease, _poison(failure, lease.losses + 1))
                else:
                    await self._return(lease, failure, lost=lost)
            elif not error.retryable or lease.attempt >= self._settings.max_attempts:
                await self._bury(lease, failure)
            else:
                self._failed_at.setdefault(lease.id, set()).add(worker_id)
                ceiling_s = min(
                    self._settings.retry_cap_s, self._settings.retry_base_s * 2.0 ** min(lease.attempt - 1, 64)
                )
                await self._queue.retry(lease, random.uniform(0, ceiling_s), failure)
                self._emit(Retried(lease.id, failure, lease.attempt, counted=True))
        except LeaseLostError:
            return

    async def _return(self, lease: Lease, failure: Failure, *, lost: bool) -> None:
        await self._queue.release(lease, failure=failure if lost else None)
        self._emit(Retried(lease.id, failure, lease.attempt, counted=False))

    async def _bury(self, lease: Lease, failure: Failure) -> None:
        self._failed_at.pop(lease.id, None)
        await self._queue.bury(lease, failure)
        self._emit(Buried(lease.id, failure, lease.attempt))


async def _either(*waits: Awaitable[Any], timeout_s: float) -> None:
    """Wait until one of `waits` ends, `timeout_s` at the most; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _poison(failure: Failure, losses: int) -> Failure:
    return replace(failure, message=f"lost {losses} workers in a row, last: {failure.message}")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
