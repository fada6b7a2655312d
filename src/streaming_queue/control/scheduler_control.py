"""The control of a run that goes on, in its own process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Protocol

from streaming_queue.control import record
from streaming_queue.control.base import PAGE, RunControl
from streaming_queue.errors import ConfigError
from streaming_queue.queue.base import WorkQueue
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.telemetry.events import Continued, Listener, Notice, Paused, Purged, Replayed


class Steered(Protocol):
    """What is steered: the round."""

    @property
    def paused(self) -> bool:
        """Whether nothing is handed out for now."""

    @property
    def draining(self) -> bool:
        """Whether nothing will be handed out any more."""

    async def pause(self) -> None:
        """Hand out nothing until `unpause`."""

    def unpause(self) -> None:
        """Hand questions out again."""

    def drain(self) -> None:
        """End when what is in flight has ended."""


class Membership(Protocol):
    """The workers of the run."""

    def workers(self) -> list[dict[str, Any]]:
        """Each with its state and figures."""

    async def add(self, address: str, *, protocol: str | None = None, worker_id: str | None = None) -> str:
        """Have one more take part; its id."""

    async def remove(self, worker_id: str, *, at_once: bool = False) -> None:
        """Have one leave."""


class SchedulerControl(RunControl):
    """Commands, from whoever may give them, carried out on the scheduler and the queue of one run.

    A further command is a method of `RunControl`, done here and refused in `StoppedRun`, and its line in `commands`.
    """

    live = True

    def __init__(
        self,
        queue: WorkQueue,
        directory: RunDirectory,
        steered: Steered,
        emit: Listener,
        membership: Membership | None = None,
    ) -> None:
        self._queue = queue
        self._directory = directory
        self._steered = steered
        self._emit = emit
        self._membership = membership
        self._ending = False
        self._changing = asyncio.Lock()

    async def retire(self) -> bool:
        """Take no more changes to the dead letters, for all has ended; False: some were put back, and it goes on."""
        async with self._changing:
            self._ending = (await self._queue.counts()).open == 0
            return self._ending

    async def stats(self) -> dict[str, Any]:
        """See RunControl."""
        steered = self._steered
        state = "draining" if steered.draining else "paused" if steered.paused else "running"
        return await record.stats(self._queue, self._directory, state=state, pid=os.getpid())

    async def pause(self) -> dict[str, Any]:
        """See RunControl."""
        if not self._steered.paused:
            await self._steered.pause()
            self._emit(Paused(str(self._directory.path)))
        return await self.stats()

    async def resume(self) -> dict[str, Any]:
        """See RunControl."""
        if self._steered.paused:
            self._steered.unpause()
            self._emit(Continued())
        return await self.stats()

    async def drain(self) -> dict[str, Any]:
        """See RunControl."""
        if not self._steered.draining:
            self._emit(Notice("warning", "stq stop: finishing what is in flight"))
            self._steered.drain()
        return await self.stats()

    async def workers(self) -> list[dict[str, Any]]:
        """See RunControl."""
        return self._members.workers()

    async def add_worker(
        self, address: str, *, protocol: str | None = None, worker_id: str | None = None
    ) -> list[dict[str, Any]]:
        """See RunControl."""
        await self._members.add(address, protocol=protocol, worker_id=worker_id)
        return self._members.workers()

    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> list[dict[str, Any]]:
        """See RunControl."""
        await self._members.remove(worker_id, at_once=at_once)
        return self._members.workers()

    @property
    def _members(self) -> Membership:
        if self._membership is None:
            raise ConfigError(f"{self._directory.path}: the workers of this run are nobody's to change")
        return self._membership

    async def dead_letters(self, *, reason: str | None = None, after: int = 0, limit: int = PAGE) -> dict[str, Any]:
        """See RunControl."""
        return await record.dead_letters(self._queue, reason=reason, after=after, limit=limit)

    async def dead_letter(self, question_id: str) -> dict[str, Any]:
        """See RunControl."""
        return await record.dead_letter(self._queue, self._directory, question_id)

    async def replay(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """See RunControl."""
        await record.check_reason(self._queue, reason)
        async with self._changing:
            self._refuse_at_the_end()
            count = await self._queue.replay(ids=ids, failure_type=reason)
            if count:
                self._emit(Replayed(count))
            return count

    async def purge(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """See RunControl."""
        await record.check_reason(self._queue, reason)
        async with self._changing:
            self._refuse_at_the_end()
            count = await self._queue.purge(ids=ids, failure_type=reason)
            if count:
                self._emit(Purged(count))
            return count

    def _refuse_at_the_end(self) -> None:
        if self._ending:
            raise ConfigError(
                f"{self._directory.path}: all has ended and the report is being written: try again after it"
            )
