"""One round: from a source of questions through queue and workers to files on disk, resumable at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from streaming_queue.config import AUTO, Config
from streaming_queue.config.kept_secrets import keep
from streaming_queue.config.redaction import hidden
from streaming_queue.config.trust import effects, mark_of
from streaming_queue.control.scheduler_control import Membership, SchedulerControl
from streaming_queue.control.server import serve_control
from streaming_queue.core.feed import Feed
from streaming_queue.core.provider import resolve_provider
from streaming_queue.core.scheduling.auto import ProtocolChoice
from streaming_queue.core.scheduling.scheduler import Ask, Scheduler, SchedulerSettings
from streaming_queue.errors import ConfigError, QueueError, StreamingQueueError, error_event
from streaming_queue.queue.base import WorkQueue
from streaming_queue.queue.lock import refuse_owned
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import QUEUE_FILE, RunDirectory
from streaming_queue.report.summary import write_results
from streaming_queue.telemetry.events import (
    Answered,
    Buried,
    Event,
    Listener,
    Purged,
    Queued,
    Replayed,
    RoundFinished,
    RoundStarted,
    Sent,
)


class Run:
    """One dispatch. `state` goes from running to done, stopped (drained, resumable) or failed."""

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        *,
        worker_ids: Sequence[str],
        ask: Callable[[str], Ask],
        probe: Callable[[str], Awaitable[bool]],
        protocol_of: Callable[[str], str],
        emit: Listener,
        on_row: Callable[[dict[str, Any]], None] | None = None,
        network_metrics: Callable[[], Mapping[str, Any]] | None = None,
        membership: Membership | None = None,
    ) -> None:
        """`ask` makes the way to ask for a run id; `on_row` is told each row of results, in a thread of its own."""
        self.config = config
        self.directory = directory
        self.round_id = directory.run_id
        self.state = "running"
        self.error: StreamingQueueError | None = None
        self.done = self.failed = self.total = 0
        self.summary: Mapping[str, Any] | None = None
        """What `run.json` keeps of the round, once it has ended with a report."""
        self._worker_ids = tuple(worker_ids)
        self._ask = ask(self.round_id)
        self._probe = probe
        self._protocol_of = protocol_of
        self._tell = emit
        self._on_row = on_row
        self._network_metrics = network_metrics
        self._membership = membership
        self.paused = False
        self.draining = False
        self._owned = False  # whether the queue's lock is ours, and so the directory
        self._scheduler: Scheduler | None = None
        self._choice: ProtocolChoice | None = None
        if config.protocol == AUTO:
            self._choice = ProtocolChoice(config.auto, worker_ids, protocol_of=protocol_of, emit=emit)
        self._reading: Feed | None = None
        self._intake: asyncio.Task[None] | None = None
        self._projection: Projection | None = None

    async def pause(self) -> None:
        """Hand out no more questions until `unpause`; what is in flight ends."""
        self.paused = True
        if self._scheduler:
            await self._scheduler.pause()

    def unpause(self) -> None:
        """Hand questions out again."""
        self.paused = False
        if self._scheduler:
            self._scheduler.unpause()

    def add_worker(self, worker_id: str) -> None:
        """Have a worker take part from now on."""
        self._worker_ids = tuple(dict.fromkeys((*self._worker_ids, worker_id)))
        if self._scheduler:
            self._scheduler.add_worker(worker_id)

    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> None:
        """Have a worker take part no longer; return when its questions have ended, or `at_once` went elsewhere."""
        if self._scheduler:
            await self._scheduler.remove_worker(worker_id, at_once=at_once)

    def worker_states(self) -> dict[str, dict[str, Any]]:
        """See `WorkerPool.states`; nothing before the first question is handed out."""
        return self._scheduler.pool.states() if self._scheduler else {}

    def drain(self) -> None:
        """Stop taking questions in and handing them out; `run` ends when what is in flight has ended."""
        self.draining = True
        if self._scheduler:
            self._scheduler.drain()
        if self._intake:
            self._intake.cancel()

    async def run(self) -> None:
        """Work until all has ended, or the drain is over; then `state` and the files are final.

        Raises:
            ConfigError: the source cannot be read (on); what was read of it has been worked through.
            AuthError, QuotaError: no worker can go on; the round is stopped and can be resumed.
            QueueError: the queue failed.
        """
        started = time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                queue = await SQLiteQueue.open(self.directory.queue_path, lease_s=self.config.scheduler.lease_s)
                stack.push_async_callback(queue.close)
                await asyncio.to_thread(self.directory.update, state="running", error=None)
                self._owned = True
                async with Projection(queue, self.directory.results_jsonl, also=self._on_row) as self._projection:
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
        """Note an end that left no report, unless the run is another's; where it cannot be written it stays running."""
        self.state = state
        if not self._owned:
            return
        told = error_event(error) if error else None
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self.directory.update, state=state, error=told)

    async def _work(self, queue: SQLiteQueue) -> str:
        """Work the queue down; the state to end with once the files are written."""
        counts = await queue.counts()
        self.done, self.failed, self.total = counts.done, counts.dead, counts.total
        settings = self._settings()
        slots = sum(map(settings.slots_of, self._worker_ids))
        self._tell(RoundStarted(self.round_id, self._worker_ids, slots, resumed=counts.total > 0, counts=counts))
        self._reading = reading = Feed(self.config, queue, self._emit)
        control = SchedulerControl(queue, self.directory, self, self._emit, self._membership)
        self._scheduler = Scheduler(
            queue,
            self._ask,
            self._worker_ids,
            probe=self._probe,
            protocol_of=self._protocol_of,
            emit=self._emit,
            settings=settings,
            intake_done=reading.done,
            choice=self._choice,
            may_end=control.retire,
        )
        try:
            async with serve_control(control, queue), asyncio.TaskGroup() as tasks:
                self._intake = tasks.create_task(reading.run(), name="intake")
                if self.draining:
                    self.drain()
                finished = await self._scheduler.run()
                self._intake.cancel()
            self.error = reading.error
        except* StreamingQueueError as group:
            self.error, finished = _first(group), False
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

    def _emit(self, event: Event) -> None:
        if type(event) is not Sent:
            self._count(event)
        self._tell(event)

    def _count(self, event: Event) -> None:
        kind = type(event)
        if kind is Answered:
            self.done += 1
        elif kind is Buried:
            self.failed += 1
        elif isinstance(event, Queued):
            self.total = event.total
        elif isinstance(event, Replayed | Purged):
            self.failed -= event.count
            self.total -= event.count if kind is Purged else 0
        if self._reading and kind in (Answered, Buried):
            self._reading.make_room()
        if self._projection and kind in (Answered, Buried, Replayed, Purged):
            self._projection.nudge()

    async def _finish(self, queue: WorkQueue, state: str, seconds: float) -> None:
        """Write the summary where people and scripts look for it."""
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
        if self._network_metrics and self.config.network.metrics:
            summary["network"] = self._network_metrics()
        if self._choice:
            summary["auto"] = self._choice.report()
        told = error_event(self.error) if self.error else None
        await asyncio.to_thread(self.directory.update, state=state, summary=summary, error=told)
        self.summary = summary
        self._tell(RoundFinished(state, counts, summary))


def check_directory(config: Config) -> None:
    """Raise ConfigError where the directory of `config` is in use or holds another run; changes nothing. Blocks."""
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
    """The directory for the round that `config` describes: a new one, or the one to go on with. Blocks.

    Raises:
        ConfigError: it is in use by another process, holds another run, or cannot be read or written; or what is kept
            of it in the user's state folder cannot.
    """
    check_directory(config)
    if config.output.resume:
        if config.output.dir is None:
            raise ConfigError("output.resume needs output.dir: which run to go on with")
        directory = RunDirectory.open(config.output.dir)
        earlier = directory.manifest
        directory.manifest = {key: value for key, value in earlier.items() if key != "mark"}
        directory.manifest |= _resumed(_facts(config), earlier)
    else:
        directory = RunDirectory.create(config.output.dir, config.spoken, _facts(config))
    keep(directory.run_id, directory.manifest["config"], hidden(config))
    return directory


def _resumed(facts: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """What is new of a run that goes on: its settings and, where the model is another, who answers."""
    facts["config"]["output"] = earlier.get("config", {}).get("output", facts["config"]["output"])
    was, now = earlier.get("provider"), facts["provider"]
    if was and now and all(was[key] == now[key] for key in ("name", "model", "mock")):
        facts["provider"] = was  # for the reason that it was chosen then
    return facts


def _facts(config: Config) -> dict[str, Any]:
    """What `run.json` says of a run before it begins."""
    coordinator = config.qa.coordinator
    settings = config.public()
    for key in ("data_file", "result_file"):  # so that a resume from another working directory finds them
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


def _first(group: BaseExceptionGroup[StreamingQueueError]) -> StreamingQueueError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
