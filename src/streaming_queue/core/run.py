"""A run: from a source of questions through queue and workers to files on disk, resumable at any time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from typing import Any

from streaming_queue.config import AUTO, Config
from streaming_queue.core import source_change
from streaming_queue.core.feed import Feed
from streaming_queue.core.membership import Membership
from streaming_queue.core.scheduling.auto import ProtocolChoice
from streaming_queue.core.scheduling.scheduler import Ask, Scheduler, SchedulerSettings
from streaming_queue.errors import (
    DiskFullError,
    QueueError,
    QueueStalledError,
    StreamingQueueError,
    disk_error,
    error_event,
)
from streaming_queue.queue.base import WorkQueue
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.report.summary import write_results
from streaming_queue.telemetry.events import (
    Answered,
    DeadLettered,
    Event,
    EventListener,
    Notice,
    Purged,
    Queued,
    Replayed,
    RunFinished,
    RunStarted,
    Sent,
    WorkerJoined,
    WorkerUp,
)

Steering = Callable[["Run", Scheduler, SQLiteQueue], AbstractAsyncContextManager[None]]
"""Opens the control of a run; the run works inside the context."""

FULL_S = 600.0
"""How long a run waits for space on a full disk, in seconds."""
LAST_WRITE_S = 5.0
"""Longest time to write the end of a failed run, in seconds: its disk may hang."""

logger = logging.getLogger(__name__)


class Run:
    """One run of a coordinator. `state` goes from running to done, stopped (drained, resumable) or failed."""

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        *,
        membership: Membership,
        ask: Callable[[str], Ask],
        emit: EventListener,
        on_row: Callable[[dict[str, Any]], None] | None = None,
        rows_after: str | None = None,
        steering: Steering | None = None,
    ) -> None:
        """`ask` creates the function that asks questions, by run id; `on_row` receives each row, in its own thread.

        It begins after the cursor `rows_after`; None: at the rows that results.jsonl lacks.
        """
        self.config = config
        self.directory = directory
        self.round_id = directory.run_id
        self.membership = membership
        self.state = "running"
        self.draining = False
        self.error: StreamingQueueError | None = None
        self.done = self.failed = self.total = 0
        self.summary: Mapping[str, Any] | None = None
        """The summary in `run.json`, if the run has ended with a report."""
        self._worker_ids: tuple[str, ...] = ()
        self._ask = ask(self.round_id)
        self._listener = emit
        self._on_row = on_row
        self._rows_after = rows_after
        self._steering = steering
        self._queue: SQLiteQueue | None = None
        self._full = ""
        self._owned = False  # whether this run holds the queue's lock, and so the directory
        self._scheduler: Scheduler | None = None
        self._choice: ProtocolChoice | None = None
        self._feed: Feed | None = None
        self._intake: asyncio.Task[None] | None = None
        self._projection: Projection | None = None

    @property
    def paused(self) -> bool:
        """Whether the run is paused: it sends no questions."""
        return self.state == "running" and self._scheduler is not None and self._scheduler.paused

    @property
    def waiting(self) -> str:
        """Why the run can only wait (`events.Waiting`); empty while it works."""
        return self._full or (self._scheduler.waiting if self._scheduler else "")

    def drain(self) -> None:
        """Read and send no more questions; `run` ends when the questions in flight have ended."""
        self.draining = True
        if self._scheduler:
            self._scheduler.drain()
        if self._intake:
            self._intake.cancel()
        if self._queue:
            self._queue.end_waits(self.config.scheduler.drain_s)

    async def run(self) -> None:
        """Work until all questions have ended or the drain is over; then `state` and the files are final.

        Raises:
            ConfigError: the source cannot be read to its end; all questions read before have ended. Or `rows_after` is
                not a cursor of this run, or the lines read before are changed (`output.source_changed`).
            AuthError, QuotaError, UnavailableError: no worker can go on; the run is stopped and can be resumed.
            DiskFullError: the disk was full for ten minutes; the run can be resumed.
            QueueStalledError: the disk did not answer; the run can be resumed.
            QueueError: the queue failed.
            StreamingQueueError: a file of the run cannot be written, or another part of the run failed.
        """
        started = time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                queue = await self._open_queue(stack)
                after = None if self._rows_after is None else await queue.number_of(self._rows_after)
                line = await source_change.first_changed_line(queue, self.config.qa.coordinator.data_file)
                if line is not None and await self._source_changed(queue, line):
                    queue = await self._open_queue(stack)
                    after = None if after is None else 0
                await asyncio.to_thread(self.directory.update, state="running", error=None)
                self._owned = True
                rows = Projection(queue, self.directory.results_jsonl, also=self._on_row, after=after)
                async with rows as self._projection:
                    state = await self._work(queue)
                await self._finish(queue, state, time.monotonic() - started)
            self.state = state
        except asyncio.CancelledError:
            await self._ended("stopped", None)
            raise
        except Exception as error:
            failure = self._typed(error)
            await self._ended(
                "stopped" if isinstance(failure, DiskFullError | QueueStalledError) else "failed", failure
            )
            if failure is error:
                raise
            raise failure from error
        if self.error:
            raise self.error

    async def _open_queue(self, stack: AsyncExitStack) -> SQLiteQueue:
        self._queue = queue = await SQLiteQueue.open(
            self.directory.queue_path, lease_s=self.config.scheduler.lease_s, full_s=FULL_S, on_full=self._on_full
        )
        if self.draining:
            self.drain()
        stack.push_async_callback(queue.close)
        return queue

    async def _source_changed(self, queue: SQLiteQueue, line: int) -> bool:
        """Do what the settings say about a changed `line`. True: the queue was put aside."""
        choice = self.config.output.source_changed
        changed = f"line {line} of the source is changed"
        if choice == "refuse":
            raise source_change.refused(self.directory, self.config, line)
        if choice == "append":
            await source_change.read_on_from(queue, line)
            self._listener(Notice("warning", f"{changed}; the run keeps its rows and reads on from there"))
            return False
        await queue.close()
        path = await source_change.put_aside(self.directory)
        self._listener(Notice("warning", f"{changed}; the run begins anew, its old rows are in {path}"))
        return True

    def _typed(self, error: Exception) -> StreamingQueueError:
        """The end of the run as an error of ours."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, StreamingQueueError):
            return error
        if isinstance(error, OSError):
            path = error.filename or self.directory.path
            return disk_error(path, error) or StreamingQueueError(f"{path}: {error.strerror or error}; resume the run")
        logger.error("the run failed", exc_info=error)
        return StreamingQueueError(f"the run failed: {type(error).__name__}: {error}; the log has the traceback")

    def _on_full(self, is_full: bool) -> None:
        path = self.directory.path
        self._full = f"the disk is full; waiting for space on {path}" if is_full else ""
        if is_full:
            more = f"for {FULL_S / 60:g} minutes at most; answers in flight are kept"
            self._listener(Notice("warning", f"{self._full}, {more}"))
        else:
            self._listener(Notice("info", f"there is space again on {path}; the run goes on"))

    async def _ended(self, state: str, error: StreamingQueueError | None) -> None:
        """Write an end without a report to our own directory. If the write fails, `run.json` still says running."""
        self.state = state
        if self._owned:
            with contextlib.suppress(StreamingQueueError, TimeoutError):
                failure = error_event(error) if error else None
                async with asyncio.timeout(LAST_WRITE_S):
                    await asyncio.to_thread(self.directory.update, state=state, error=failure)

    async def _work(self, queue: SQLiteQueue) -> str:
        """Ask all questions of the queue; returns the final state, for when the files are written."""
        counts = await queue.counts()
        self.done, self.failed, self.total = counts.done, counts.dead, counts.total
        self._worker_ids = workers = tuple(self.membership.worker_ids)
        settings = self._settings()
        slots = sum(map(settings.slots_of, workers))
        protocol_of = self.membership.protocol_of
        self._listener(RunStarted(self.round_id, workers, slots, resumed=counts.total > 0, counts=counts))
        if self.config.protocol == AUTO:
            self._choice = ProtocolChoice(self.config.auto, workers, protocol_of=protocol_of, emit=self._listener)
        self._feed = feed = Feed(self.config, queue, self.emit)
        self._scheduler = scheduler = Scheduler(
            queue,
            self._ask,
            workers,
            probe=self.membership.network.health.answers,
            protocol_of=protocol_of,
            emit=self.emit,
            settings=settings,
            intake_done=feed.done,
            choice=self._choice,
            down=self.membership.missing(workers),
        )
        self.membership.scheduler = scheduler
        feed.is_wanted = lambda: scheduler.pool.all_down_since is None
        steered = self._steering(self, scheduler, queue) if self._steering else nullcontext()
        try:
            async with steered, asyncio.TaskGroup() as tasks:
                self._intake = tasks.create_task(feed.run(), name="intake")
                if self._projection:
                    watching = tasks.create_task(self._projection.watch(), name="watch:projection")
                if self.draining:
                    self.drain()
                finished = await scheduler.run()
                self._intake.cancel()
                if self._projection:
                    watching.cancel()
            self.error = feed.error
        except* StreamingQueueError as group:
            self.error, finished = _first(group), False
        finally:
            self.membership.scheduler = None
        if isinstance(self.error, QueueError):
            raise self.error
        return "done" if finished and self.error is None else "stopped"

    def _settings(self) -> SchedulerSettings:
        config = self.config
        return SchedulerSettings(
            slots={worker_id: config.slots(worker_id) for worker_id in self._worker_ids},
            concurrency=config.qa.worker.most_at_once,
            adaptive=config.qa.worker.concurrency == "auto",
            batch_size=config.qa.coordinator.batch_size,
            **config.scheduler.model_dump(),
            probe_interval_s=min(1.0, config.network.health_check_interval),
        )

    def emit(self, event: Event) -> None:
        """Count an event and send it to the listeners."""
        if type(event) is not Sent:
            self._count(event)
        self._listener(event)

    def _count(self, event: Event) -> None:
        kind = type(event)
        if kind is Answered:
            self.done += 1
        elif kind is DeadLettered:
            self.failed += 1
        elif isinstance(event, Queued):
            self.total = event.total
        elif isinstance(event, Replayed | Purged):
            self.failed -= event.count
            self.total -= event.count if kind is Purged else 0
        elif isinstance(event, WorkerJoined):
            self._worker_ids = tuple(dict.fromkeys((*self._worker_ids, event.worker)))
        if self._feed and kind in (Answered, DeadLettered, WorkerUp, WorkerJoined):
            self._feed.make_room()
        if self._projection and kind in (Answered, DeadLettered, Replayed, Purged):
            self._projection.nudge()

    async def _finish(self, queue: WorkQueue, state: str, seconds: float) -> None:
        """Write the summary to `run.json`, and report it."""
        counts = await queue.counts()
        self.done, self.failed, self.total = counts.done, counts.dead, counts.total
        summary = await write_results(
            self.directory,
            queue,
            state=state,
            seconds=seconds,
            workers=self._worker_ids,
            result_file=self.config.qa.coordinator.result_file,
        )
        mark = await queue.bookmark() or {}
        summary |= {"skipped": mark.get("skipped", 0), "duplicates": mark.get("duplicates", 0)}
        if self._scheduler:
            summary |= self._scheduler.figures()
        if self.config.network.metrics:
            summary["network"] = self.membership.network.snapshot_metrics()
        if self._choice:
            summary["auto"] = self._choice.report()
        failure = error_event(self.error) if self.error else None
        await asyncio.to_thread(self.directory.update, state=state, summary=summary, error=failure)
        self.summary = summary
        self._listener(RunFinished(state, counts, summary))


def _first(group: BaseExceptionGroup[StreamingQueueError]) -> StreamingQueueError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
