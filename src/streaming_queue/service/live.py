"""The live queue: the workers of a coordinator answer the questions of all runs, until the service drains."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from streaming_queue.core.qa_coordinator_base import QACoordinatorBase
from streaming_queue.core.scheduling.scheduler import Ask, Scheduler, SchedulerSettings
from streaming_queue.errors import QueueError, StreamingQueueError
from streaming_queue.messages import Failure, ReplyMetadata, Result
from streaming_queue.queue.base import Lease
from streaming_queue.queue.runs import QueueOfRuns
from streaming_queue.telemetry.events import Answered, DeadLettered, Event, EventListener, Notice

REST_S = 10.0
"""Pause after an error that no worker can mend, such as a refused credential, in seconds."""

End = Result | Failure


class LiveQueue:
    """Gives the questions of `queue` to the workers of `coordinator`. `run` works until `drain`."""

    def __init__(self, coordinator: QACoordinatorBase, queue: QueueOfRuns, emit: EventListener) -> None:
        self._coordinator = coordinator
        self._queue = queue
        self._listener = emit
        self._askers: dict[str, Ask] = {}
        self._waiting: dict[str, set[asyncio.Future[End]]] = {}
        self._draining = asyncio.Event()
        self._scheduler: Scheduler | None = None
        self.problem = ""
        """Why no question is answered now; empty while the workers work."""

    async def run(self) -> None:
        """Work until the drain is over. Raises QueueError: the queue failed."""
        while not self._draining.is_set():
            self._scheduler = scheduler = self._new_scheduler()
            self._coordinator.membership.scheduler = scheduler
            try:
                await scheduler.run()
            except QueueError:
                raise
            except StreamingQueueError as error:
                self.problem = str(error)
                self._listener(Notice("error", f"{error}; the next try is in {REST_S:g} s, questions keep their place"))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REST_S):
                        await self._draining.wait()
            finally:
                self._coordinator.membership.scheduler = None
            self.problem = ""

    def drain(self) -> None:
        """Send no more questions; `run` ends when the questions in flight have ended."""
        self._draining.set()
        if self._scheduler is not None:
            self._scheduler.drain()

    @property
    def waiting(self) -> str:
        """Why the queue can only wait; empty while it works."""
        return self.problem or (self._scheduler.waiting if self._scheduler else "")

    def _new_scheduler(self) -> Scheduler:
        coordinator, config = self._coordinator, self._coordinator.config
        membership = coordinator.membership
        workers = tuple(membership.worker_ids)
        settings = SchedulerSettings(
            slots={worker_id: config.slots(worker_id) for worker_id in workers},
            concurrency=config.qa.worker.most_at_once,
            adaptive=config.qa.worker.concurrency == "auto",
            batch_size=config.qa.coordinator.batch_size,
            **config.scheduler.model_dump() | {"no_worker_timeout_s": 0.0},  # a service waits for ever
            probe_interval_s=min(1.0, config.network.health_check_interval),
        )
        scheduler = Scheduler(
            self._queue,
            self._ask,
            workers,
            probe=membership.network.health.answers,
            protocol_of=membership.protocol_of,
            emit=self._emit,
            settings=settings,
            intake_done=asyncio.Event(),  # never set: a service always takes questions
            down=membership.missing(workers),
        )
        if self._draining.is_set():
            scheduler.drain()
        return scheduler

    async def _ask(self, worker_id: str, lease: Lease, deadline: float | None) -> tuple[str, ReplyMetadata]:
        ask = self._askers.get(lease.run)
        if ask is None:
            if len(self._askers) > 1000:
                self._askers.clear()
            ask = self._askers[lease.run] = self._coordinator.asker(self._queue.facts(lease.run).uid)
        return await ask(worker_id, lease, deadline)

    def _emit(self, event: Event) -> None:
        if isinstance(event, Answered):
            self._ended(event.question_id, event.result)
        elif isinstance(event, DeadLettered):
            self._ended(event.question_id, event.failure)
        self._listener(event)

    def _ended(self, key: str, end: End) -> None:
        for future in self._waiting.pop(key, ()):
            if not future.done():
                future.set_result(end)

    @contextlib.contextmanager
    def end_of(self, run: str, question_id: str) -> Iterator[asyncio.Future[End]]:
        """A future with the end of a question: begin before the question is put, wait for it within the block."""
        key = f"{run}/{question_id}"
        future: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(future)
        try:
            yield future
        finally:
            if futures := self._waiting.get(key):
                futures.discard(future)
                if not futures:
                    del self._waiting[key]
