"""A run: from a source of questions through queue and workers to files on disk, resumable at any time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

from streaming_queue.config import AUTO, Config
from streaming_queue.config.kept_secrets import keep
from streaming_queue.config.redaction import hidden
from streaming_queue.config.trust import effects, mark_of
from streaming_queue.core.feed import Feed
from streaming_queue.core.membership import Membership
from streaming_queue.core.scheduling.auto import ProtocolChoice
from streaming_queue.core.scheduling.scheduler import Ask, Scheduler, SchedulerSettings
from streaming_queue.errors import ConfigError, QueueError, StreamingQueueError, error_event
from streaming_queue.llm.choice import choose
from streaming_queue.queue.base import WorkQueue
from streaming_queue.queue.lock import refuse_owned
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import QUEUE_FILE, RunDirectory
from streaming_queue.report.summary import write_results
from streaming_queue.telemetry.events import (
    Answered,
    DeadLettered,
    Event,
    EventListener,
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
        return self._scheduler.waiting if self._scheduler else ""

    def drain(self) -> None:
        """Read and send no more questions; `run` ends when the questions in flight have ended."""
        self.draining = True
        if self._scheduler:
            self._scheduler.drain()
        if self._intake:
            self._intake.cancel()

    async def run(self) -> None:
        """Work until all questions have ended or the drain is over; then `state` and the files are final.

        Raises:
            ConfigError: the source cannot be read to its end; all questions read before have ended. Or `rows_after` is
                not a cursor of this run.
            AuthError, QuotaError, UnavailableError: no worker can go on; the run is stopped and can be resumed.
            QueueError: the queue failed.
        """
        started = time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                queue = await SQLiteQueue.open(self.directory.queue_path, lease_s=self.config.scheduler.lease_s)
                stack.push_async_callback(queue.close)
                after = None if self._rows_after is None else await queue.number_of(self._rows_after)
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
            await self._ended("failed", error)
            raise
        if self.error:
            raise self.error

    async def _ended(self, state: str, error: Exception | None) -> None:
        """Write an end without a report to our own directory. If the write fails, `run.json` still says running."""
        self.state = state
        if self._owned:
            with contextlib.suppress(OSError):
                failure = error_event(error) if error else None
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
                if self.draining:
                    self.drain()
                finished = await scheduler.run()
                self._intake.cancel()
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


def check_directory(config: Config) -> None:
    """Raise ConfigError if the directory of `config` is in use or holds another run. Changes nothing, blocks."""
    if config.output.dir is None:
        return
    path = Path(config.output.dir)
    try:
        refuse_owned(path / QUEUE_FILE)
    except (QueueError, OSError) as error:
        raise ConfigError(str(error)) from error
    if config.output.resume:
        RunDirectory(path, {}).refuse_links()
    else:
        RunDirectory(path, {}).refuse_a_run()


def open_directory(config: Config) -> RunDirectory:
    """The directory of the run that `config` describes: a new directory, or the directory to resume. Blocks.

    Raises:
        ConfigError: another process uses the directory, it holds another run, or it cannot be read or written; or the
            run's file in the user's state folder cannot be read or written.
    """
    check_directory(config)
    if config.output.resume:
        if config.output.dir is None:
            raise ConfigError("output.resume needs output.dir: the directory of the run to resume")
        directory = RunDirectory.open(config.output.dir)
        earlier = directory.manifest
        directory.manifest = {key: value for key, value in earlier.items() if key != "mark"}
        directory.manifest |= _resumed(_facts(config), earlier)
    else:
        directory = RunDirectory.create(config.output.dir, config.protocol_name, _facts(config))
    keep(directory.run_id, directory.manifest["config"], hidden(config))
    return directory


def _resumed(facts: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The new facts of a resumed run: its settings and, if the model has changed, its provider."""
    facts["config"]["output"] = earlier.get("config", {}).get("output", facts["config"]["output"])
    was, now = earlier.get("provider"), facts["provider"]
    if was and now and all(was[key] == now[key] for key in ("name", "model", "mock")):
        facts["provider"] = was  # with the reason of its first choice
    return facts


def _facts(config: Config) -> dict[str, Any]:
    """The facts in `run.json` before a run begins."""
    coordinator = config.qa.coordinator
    settings = config.public()
    for key in ("data_file", "result_file"):  # a resume from another working directory finds them
        path = settings["qa"]["coordinator"][key]
        if path not in (None, "-"):
            settings["qa"]["coordinator"][key] = str(Path(path).resolve())
    mark = mark_of(effects(settings))
    return ({} if mark is None else {"mark": mark}) | {
        "config": settings,
        "seed": config.mock.seed,
        "provider": resolve_provider(config, settings),
        "source": coordinator.data_file or "bundled questions",
    }


def resolve_provider(config: Config, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The facts of the provider that answers; None if running workers answer, or several providers.

    It writes each choice into `settings`, the public settings of `config`, so that a resume chooses the same.
    """
    for group, written in zip(config.workers, settings["workers"], strict=True):
        if group.core and not group.endpoints:
            (setup, *_) = group.setups(config.protocol, config.core, None)
            written["core"]["type"] = choose(setup.core, config.mock).llm.provider
    answering = config.answering
    if config.core in answering:
        settings["core"]["type"] = choose(config.core, config.mock).llm.provider
    if len(answering) != 1 or any(setup.address is not None for setup in config.roster.values()):
        return None
    (core,) = answering
    choice = choose(core, config.mock)
    llm = choice.llm
    return {"name": llm.provider, "model": llm.model, "mock": llm.is_mock, "reason": choice.reason}


def _first(group: BaseExceptionGroup[StreamingQueueError]) -> StreamingQueueError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
