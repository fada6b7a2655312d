"""One protocol's storm: a real run under a steady load, and the faults in it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, Any

from streaming_queue.config import Config, load_config
from streaming_queue.errors import StreamingQueueError
from streaming_queue.exit_codes import ExitCode
from streaming_queue.failstorm.faults import inflict
from streaming_queue.failstorm.load import Load
from streaming_queue.failstorm.measures import WINDOW_S, figures_of
from streaming_queue.failstorm.observer import Observer
from streaming_queue.failstorm.plan import Plan
from streaming_queue.failstorm.record import Ledger, examine
from streaming_queue.failstorm.report import told
from streaming_queue.failstorm.timeline import Cycle, Timeline
from streaming_queue.failstorm.workers import StormWorker
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.telemetry.console import Output

CALIBRATION_S = 3.0
"""About how long all slots are kept busy to measure the capacity."""
FIRST_WAVES = 3
"""Answers of so many rounds of all slots are left out of it: connections are made."""
SETTLE_S = 2.0
START_S = 60.0
BACK_S = 30.0
"""How long a fault's victims are waited for before the next fault comes all the same."""
CALM_S = WINDOW_S + 1.0
"""How long everything is well at the least before the next fault, so that throughput can be seen to be back."""
END_S = 60.0
DRAIN_S = 2.0


class Storm:
    """A storm over one protocol. Its run is in `directory`/NAME, and what that said in NAME.log."""

    def __init__(self, protocol: str, name: str, plan: Plan, directory: Path, output: Output) -> None:
        self._protocol = protocol
        self._plan = plan
        self._directory = directory / name
        self._log = directory / f"{name}.log"
        self._pipe = directory / f"{name}.pipe.jsonl"
        self._output = output
        self._random = random.Random(plan.seed)
        self._observer = Observer([f"Worker-{number + 1}" for number in range(plan.workers)])
        self._cycles: list[Cycle] = []
        self._origin = 0.0
        self._capacity_per_s = 0.0
        self._runner: RunnerBase | None = None

    async def run(self) -> tuple[Timeline, Ledger]:
        """Do it; what was seen, and what was recorded.

        Raises:
            ConfigError, BackendNotInstalledError, ConnectError: workers cannot be started, or not be hit by the fault.
            StreamingQueueError: the run ended before the storm did, or did not end.
            KeyboardInterrupt, SystemExit: SIGINT, SIGTERM.
        """
        async with AsyncExitStack() as stack:
            log = stack.enter_context(await asyncio.to_thread(self._log.open, "w", encoding="utf-8"))
            load = await stack.enter_async_context(Load(self._pipe))
            workers = await self._start_workers(stack, log)
            self._runner = RunnerBase(
                self._config(
                    {
                        "qa.coordinator.data_file": str(load.path),
                        "qa.worker.endpoints": [worker.address for worker in workers],
                        "output.dir": str(self._directory),
                    }
                ),
                output=Output(stdout=log, stderr=log),
            )
            self._runner.listeners.append(self._observer)
            await self._both(self._runner, load, workers)
            timeline = self._timeline(load)
            results = self._directory / "results.jsonl"
            ledger = await asyncio.to_thread(
                examine, load.due, self._observer.told, results, dict(self._observer.stats)
            )
        return timeline, ledger

    def _config(self, flags: Mapping[str, Any]) -> Config:
        """Workers whose answers take always the same time; nothing of the environment's."""
        plan = self._plan
        settings = {
            "protocol": self._protocol,
            "core.type": "mock",
            "mock.latency_ms": plan.latency_ms,
            "qa.worker.count": plan.workers,
            "qa.worker.concurrency": plan.slots,
            "scheduler.drain_s": DRAIN_S,
        }
        return load_config(flags={**settings, **flags}, environ={})

    async def _start_workers(self, stack: AsyncExitStack, log: IO[str]) -> list[StormWorker]:
        config, output = self._config({}), Output(stdout=log, stderr=log)
        relayed = self._plan.fault.in_the_network
        starts = (
            StormWorker.start(config, worker_id, relayed=relayed, output=output, moved=self._moved, stack=stack)
            for worker_id in self._observer.workers
        )
        workers = []
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            workers.append(outcome)
        return workers

    async def _moved(self, agent_id: str, address: str) -> None:
        if self._runner is not None:
            await self._runner.network.comm_backend.register_endpoint(agent_id, address)

    async def _both(self, runner: RunnerBase, load: Load, workers: list[StormWorker]) -> None:
        """The run, and the storm beside it; whichever ends before its time ends the other."""
        running = asyncio.create_task(runner.execute(), name="storm:run")
        storming = asyncio.create_task(self._storm(load, workers), name="storm")
        watching = asyncio.create_task(self._observer.watch(), name="storm:observer")
        tasks = (running, storming, watching)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if storming.done():
                await storming
                await asyncio.wait({running}, timeout=END_S)
            if not running.done():
                raise StreamingQueueError(f"{self._protocol}: the run did not end within {END_S:g} s after the storm")
            self._conclude(await running)
            if not storming.done():
                raise StreamingQueueError(f"{self._protocol}: the run ended before the storm did; see {self._log}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _conclude(self, code: int) -> None:
        if code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if code == ExitCode.TERMINATED:
            raise SystemExit(code)
        if code not in (ExitCode.OK, ExitCode.SOME_FAILED):
            raise StreamingQueueError(f"{self._protocol}: the run ended with {code}; see {self._log}")

    # --- the storm ---

    async def _storm(self, load: Load, workers: list[StormWorker]) -> None:
        plan = self._plan
        self._capacity_per_s = await self._calibrate(load)
        for worker in workers:
            if worker.relay is not None and not worker.relay.received.total:
                raise StreamingQueueError(
                    f"{self._protocol}: questions do not go through the relay of {worker.agent_id}"
                )
        ideal_per_s = plan.at_once / plan.latency_ms * 1000
        offered_per_s = plan.load * self._capacity_per_s
        self._output.info(
            f"{self._protocol}: {self._capacity_per_s:.0f} answers/s measured, {ideal_per_s:.0f} at the best; "
            f"{offered_per_s:.0f} asked for"
        )
        load.pace(offered_per_s)
        self._origin = time.monotonic()
        await asyncio.sleep(SETTLE_S)
        for number in range(plan.cycles):
            self._cycles.append(await self._cycle({worker.agent_id: worker for worker in workers}))
            self._report(number + 1, load)
        await load.end()

    async def _calibrate(self, load: Load) -> float:
        """Answers a second with every slot busy."""
        plan, observer = self._plan, self._observer
        waves = max(2 * FIRST_WAVES, round(1000 * CALIBRATION_S / plan.latency_ms))
        first, last = FIRST_WAVES * plan.at_once, (waves - 1) * plan.at_once
        load.burst(waves * plan.at_once)
        try:
            async with asyncio.timeout(START_S + 2 * CALIBRATION_S):
                await observer.answers(waves * plan.at_once)
        except TimeoutError:
            told = f"only {len(observer.answered)} of the first {waves * plan.at_once} questions were answered"
            raise StreamingQueueError(f"{self._protocol}: {told} within {START_S:g} s; see {self._log}") from None
        return (last - first) / (observer.answered[last - 1][1] - observer.answered[first - 1][1])

    async def _cycle(self, workers: Mapping[str, StormWorker]) -> Cycle:
        plan, observer = self._plan, self._observer
        candidates = sorted(observer.in_service)
        victims = self._random.sample(candidates, min(plan.kill, len(candidates) - 1))
        if not victims:
            raise StreamingQueueError(f"{self._protocol}: {len(candidates)} workers are in service, so none can be hit")
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            faults = {
                victim: tasks.create_task(inflict(plan.fault, workers[victim], plan.every_s), name=f"fault:{victim}")
                for victim in victims
            }
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BACK_S):
                await observer.all_in_service()
        await asyncio.sleep(max(CALM_S, began + plan.every_s - time.monotonic()))
        return Cycle(began, {victim: fault.result() for victim, fault in faults.items()}, time.monotonic())

    def _timeline(self, load: Load) -> Timeline:
        return self._observer.timeline(
            self._origin,
            self._cycles,
            load.due,
            capacity_per_s=self._capacity_per_s,
            offered_per_s=self._plan.load * self._capacity_per_s,
        )

    def _report(self, number: int, load: Load) -> None:
        timeline = self._timeline(load)
        cycle = timeline.cycles[-1]
        figures = told(figures_of(timeline, cycle, is_seen=self._plan.fault.is_seen))
        self._output.info(
            f"{self._protocol}: {number} of {self._plan.cycles}, {self._plan.fault} {', '.join(cycle.over)}: {figures}"
        )
