"""One round: from a source of questions through queue and workers to files on disk, resumable at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from streaming_queue.config import Config
from streaming_queue.core.scheduler import Ask, Scheduler, SchedulerSettings
from streaming_queue.errors import StreamingQueueError, error_event
from streaming_queue.intake import Source, open_source
from streaming_queue.messages import Counts
from streaming_queue.queue.base import WorkQueue
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.report.summary import write_results
from streaming_queue.telemetry.events import (
    Answered,
    Buried,
    Event,
    IntakeFinished,
    Listener,
    Notice,
    Queued,
    Recorded,
    RoundFinished,
    RoundStarted,
)

INTAKE_BATCH = 500


class Round:
    """One dispatch. `state` goes from running to done, stopped (drained, resumable) or failed."""

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        *,
        worker_ids: Sequence[str],
        ask: Callable[[Round], Ask],
        probe: Callable[[str], Awaitable[bool]],
        protocol_of: Callable[[str], str],
        emit: Listener,
        network_metrics: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.config = config
        self.directory = directory
        self.round_id: str = directory.manifest["run_id"]
        self.state = "running"
        self.error: StreamingQueueError | None = None
        self.done = self.failed = self.total = 0
        self._worker_ids = tuple(worker_ids)
        self._ask = ask(self)
        self._probe = probe
        self._protocol_of = protocol_of
        self._tell = emit
        self._network_metrics = network_metrics
        self._drained = False
        self._scheduler: Scheduler | None = None
        self._intake: asyncio.Task[None] | None = None
        self._projection: Projection

    def drain(self) -> None:
        """Stop taking questions in and handing them out; `run` ends when what is in flight has ended."""
        self._drained = True
        if self._scheduler:
            self._scheduler.drain()
        if self._intake:
            self._intake.cancel()

    async def run(self) -> None:
        """Work until all has ended, or the drain is over; then `state` and the files are final.

        Raises:
            ConfigError: the source cannot be read.
            AuthError, QuotaError: no worker can go on; the round is stopped and can be resumed.
            QueueError: the queue failed.
        """
        try:
            async with await SQLiteQueue.open(
                self.directory.queue_path, lease_s=self.config.scheduler.lease_s
            ) as queue:
                self._projection = Projection(
                    queue, self.directory.results_jsonl, also=lambda row: self._tell(Recorded(row))
                )
                async with self._projection:
                    await self._work(queue)
                await self._finish(queue)
        except StreamingQueueError as error:
            self.state = "stopped" if self.state == "stopped" else "failed"
            self.error = error
            await asyncio.to_thread(self.directory.update, state=self.state, error=error_event(error))
            raise

    async def _work(self, queue: WorkQueue) -> None:
        counts = await queue.counts()
        self.done, self.failed, self.total = counts.done, counts.dead, counts.total
        settings = self._settings()
        self._tell(
            RoundStarted(self.round_id, self._worker_ids, settings.concurrency, resumed=counts.total > 0, counts=counts)
        )
        intake_done = asyncio.Event()
        self._scheduler = Scheduler(
            queue,
            self._ask,
            self._worker_ids,
            probe=self._probe,
            protocol_of=self._protocol_of,
            emit=self._emit,
            settings=settings,
            intake_done=intake_done,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                self._intake = tasks.create_task(self._take_in(queue, intake_done), name="intake")
                if self._drained:
                    self.drain()
                try:
                    finished = await self._scheduler.run()
                except StreamingQueueError as error:
                    self.state, self.error = "stopped", error
                    finished = False
                self._intake.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        self.state = "done" if finished else "stopped"

    async def _take_in(self, queue: WorkQueue, intake_done: asyncio.Event) -> None:
        """Move the source into the queue, each batch together with how far it has been read."""
        mark: dict[str, Any] = await queue.bookmark() or {"records": 0, "questions": 0, "skipped": 0, "duplicates": 0}
        if not mark.get("complete"):
            source = await self._reopen(mark)
            if source is not None:
                async for batch in source.batches(INTAKE_BATCH):
                    mark["records"] = batch.records
                    mark["questions"] += len(batch.questions)
                    mark["skipped"] += len(batch.problems)
                    report = await queue.put(batch.questions, bookmark=mark)
                    mark["duplicates"] += report.known
                    self.total += report.added
                    for problem in batch.problems:
                        self._tell(Notice("warning", f"{problem.location}: skipped: {problem.reason}"))
                    for wished, given in report.renamed:
                        if not given.startswith(f"{wished}#") or wished:
                            self._tell(Notice("warning", f"id {wished!r} is taken by another text: stored as {given!r}"))
                    self._tell(Queued(report.added, report.known, self.total))
            await queue.put([], bookmark={**mark, "complete": True})
        intake_done.set()
        self._tell(IntakeFinished(self.total, mark["skipped"], mark["duplicates"]))

    async def _reopen(self, mark: Mapping[str, Any]) -> Source | None:
        path = self.config.qa.coordinator.data_file
        limit = self.config.question_limit
        left = None if limit is None else limit - mark["questions"]
        if mark["records"] and path == "-":
            kept = f"{mark['questions']} questions that had been read from the pipe are kept; the rest is gone"
            self._tell(Notice("warning", f"{kept} with the pipe"))
            return None
        if left is not None and left <= 0:
            return None
        return await open_source(path, strict=self.config.output.strict, limit=left, skip=mark["records"])

    def _settings(self) -> SchedulerSettings:
        config = self.config
        return SchedulerSettings(
            concurrency=config.qa.worker.concurrency,
            batch_size=config.qa.coordinator.batch_size,
            max_attempts=config.scheduler.max_attempts,
            retry_base_s=config.scheduler.retry_base_s,
            retry_cap_s=config.scheduler.retry_cap_s,
            no_worker_timeout_s=config.scheduler.no_worker_timeout_s,
            drain_s=config.scheduler.drain_s,
            lease_s=config.scheduler.lease_s,
            probe_interval_s=min(1.0, config.network.health_check_interval),
        )

    def _emit(self, event: Event) -> None:
        if isinstance(event, Answered):
            self.done += 1
            self._projection.nudge()
        elif isinstance(event, Buried):
            self.failed += 1
            self._projection.nudge()
        self._tell(event)

    async def _finish(self, queue: WorkQueue) -> None:
        """Write the summary where people and scripts look for it."""
        counts = await queue.counts()
        self.done, self.failed, self.total = counts.done, counts.dead, counts.total
        metrics = self._network_metrics() if self.config.network.metrics else None
        summary = await write_results(
            queue,
            self.directory,
            state=self.state,
            network=metrics,
            result_file=self.config.qa.coordinator.result_file,
        )
        await asyncio.to_thread(self.directory.update, state=self.state, summary=summary)
        self._tell(RoundFinished(self.state, counts, summary))
        if self.error:
            raise self.error


def describe(counts: Counts) -> str:
    """The counts in words."""
    return f"{counts.done} answered, {counts.dead} failed, {counts.total} in all"
