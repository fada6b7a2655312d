"""The control of a live run, in the run's own process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from streaming_queue.control.record import Change, RecordControl
from streaming_queue.control.server import serve_control
from streaming_queue.core.run import Run
from streaming_queue.core.scheduling.scheduler import Scheduler
from streaming_queue.errors import ConfigError
from streaming_queue.queue.base import Record, WorkQueue
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.telemetry.events import Continued, Notice, Paused, Purged, Replayed


@asynccontextmanager
async def steer(run: Run, scheduler: Scheduler, queue: SQLiteQueue) -> AsyncIterator[None]:
    """Serve the control of a run inside the context (`core.run.Steering`). Raises like `serve_control`."""
    control = SchedulerControl(run, scheduler, queue)
    scheduler.may_end = control.retire
    async with serve_control(control, queue):
        yield


class SchedulerControl(RecordControl):
    """Carries out commands on the scheduler, the workers and the queue of one run.

    A further command is a method of `RunControl`, a method here or in `RecordControl`, and a line in `commands`.
    """

    live = True

    def __init__(self, run: Run, scheduler: Scheduler, queue: WorkQueue) -> None:
        super().__init__(run.directory)
        self._run = run
        self._scheduler = scheduler
        self._queue = queue
        self._ending = False
        self._changing = asyncio.Lock()

    async def retire(self) -> bool:
        """Refuse changes to the dead letters from now on. False if some were put back, so that the run goes on."""
        async with self._changing:
            self._ending = (await self._queue.counts()).open == 0
            return self._ending

    async def stats(self) -> dict[str, Any]:
        """See RunControl."""
        state = "draining" if self._run.draining else "paused" if self._scheduler.paused else "running"
        stats = await self._stats(state=state, pid=os.getpid())
        return {**stats, "waiting": self._run.waiting} if self._run.waiting else stats

    async def pause(self) -> dict[str, Any]:
        """See RunControl."""
        if not self._scheduler.paused:
            await self._scheduler.pause()
            self._run.emit(Paused(str(self._directory.path)))
        return await self.stats()

    async def resume(self) -> dict[str, Any]:
        """See RunControl."""
        if self._scheduler.paused:
            self._scheduler.unpause()
            self._run.emit(Continued())
        return await self.stats()

    async def drain(self) -> dict[str, Any]:
        """See RunControl."""
        if not self._run.draining:
            self._run.emit(Notice("warning", "stq stop: finishing the questions in flight"))
            self._run.drain()
        return await self.stats()

    async def workers(self) -> list[dict[str, Any]]:
        """See RunControl."""
        return self._run.membership.workers()

    async def add_worker(
        self, address: str, *, protocol: str | None = None, worker_id: str | None = None
    ) -> list[dict[str, Any]]:
        """See RunControl."""
        await self._run.membership.add(address, protocol=protocol, worker_id=worker_id)
        return self._run.membership.workers()

    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> list[dict[str, Any]]:
        """See RunControl."""
        await self._run.membership.remove(worker_id, at_once=at_once)
        return self._run.membership.workers()

    def _record(self) -> AbstractAsyncContextManager[Record]:
        return nullcontext(self._queue)

    async def _change(self, change: Change, event: type[Replayed | Purged], reason: str | None) -> int:
        async with self._changing:
            if self._ending:
                raise ConfigError(
                    f"{self._directory.path}: all questions have ended and the report is being written: "
                    "try again after it"
                )
            count = await change(self._queue) if await self._any(reason) else 0
            if count:
                self._run.emit(event(count))
            return count
