"""The storm of one protocol: a real run under a steady load, and the faults in it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
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
from streaming_queue.failstorm.summary import describe
from streaming_queue.failstorm.timeline import Cycle, Timeline
from streaming_queue.failstorm.workers import StormWorker
from streaming_queue.runner.processes import start_all
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.telemetry.console import Output

CALIBRATION_S = 3.0
"""Approximate time with all slots busy, to measure the capacity."""
FIRST_WAVES = 3
"""Waves of answers before the measurement, while connections are made. A wave fills all slots once."""
SETTLE_S = 2.0
START_S = 60.0
BACK_S = 30.0
"""Longest wait for the victims of a fault before the next fault."""
CALM_S = WINDOW_S + 1.0
"""Shortest time without a fault before the next one, so that the recovered throughput is visible."""
END_S = 60.0
DRAIN_S = 2.0


class Storm:
    """A storm over one protocol. Its run is in `directory`/NAME, the messages of the run in NAME.log."""

    def __init__(self, protocol: str, name: str, plan: Plan, directory: Path, output: Output) -> None:
        self._protocol = protocol
        self._plan = plan
        self._directory = directory / name
        self._log = directory / f"{name}.log"
        self._output = output
        self._random = random.Random(plan.seed)
        self._load = Load(directory / f"{name}.pipe.jsonl")
        self._observer = Observer([f"Worker-{number + 1}" for number in range(plan.workers)], self._load.due)
        self._runner: RunnerBase | None = None

    async def run(self) -> tuple[Timeline, Ledger]:
        """Run the storm; return its timeline and the ledger of its run.

        Raises:
            ConfigError, BackendNotInstalledError, ConnectError: a worker cannot be started or hit.
            StreamingQueueError: the run ended before the storm did, or did not end.
            KeyboardInterrupt, SystemExit: SIGINT, SIGTERM.
        """
        async with AsyncExitStack() as stack:
            log = stack.enter_context(await asyncio.to_thread(self._log.open, "w", encoding="utf-8"))
            await stack.enter_async_context(self._load)
            workers = await self._start_workers(stack, log)
            self._runner = RunnerBase(
                self._config(
                    {
                        "qa.coordinator.data_file": str(self._load.path),
                        "qa.worker.endpoints": [worker.address for worker in workers],
                        "output.dir": str(self._directory),
                    }
                ),
                output=Output(stdout=log, stderr=log),
            )
            self._runner.listeners.append(self._observer)
            await self._both(self._runner, workers)
            results = self._directory / "results.jsonl"
            answered = Counter(question_id for question_id, _ in self._observer.answered)
            ledger = await asyncio.to_thread(examine, self._load.due, answered, results, self._observer.stats)
        return self._observer.timeline, ledger

    def _config(self, flags: Mapping[str, Any]) -> Config:
        """Workers whose answers always take the same time. The environment has no influence."""
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
        return await start_all(
            StormWorker.start(config, worker_id, relayed=relayed, output=output, moved=self._moved, stack=stack)
            for worker_id in self._observer.timeline.workers
        )

    async def _moved(self, agent_id: str, address: str) -> None:
        if self._runner is not None:
            await self._runner.network.comm_backend.register_endpoint(agent_id, address)

    async def _both(self, runner: RunnerBase, workers: list[StormWorker]) -> None:
        """Run the run and the storm at the same time. If one ends too early, it ends the other."""
        running = asyncio.create_task(runner.execute(), name="storm:run")
        storming = asyncio.create_task(self._storm(workers), name="storm")
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

    async def _storm(self, workers: list[StormWorker]) -> None:
        plan, load, observer = self._plan, self._load, self._observer
        observer.timeline.capacity_per_s = capacity_per_s = await self._calibrate()
        for worker in workers:
            if worker.relay is not None and not worker.relay.received.total:
                raise StreamingQueueError(
                    f"{self._protocol}: questions do not go through the relay of {worker.agent_id}"
                )
        ideal_per_s = plan.at_once / plan.latency_ms * 1000
        observer.timeline.offered_per_s = offered_per_s = plan.load * capacity_per_s
        measured = f"{capacity_per_s:.0f} answers/s measured, {ideal_per_s:.0f} at best"
        self._output.info(f"{self._protocol}: {measured}; {offered_per_s:.0f} asked")
        load.pace(offered_per_s)
        observer.begin()
        await asyncio.sleep(SETTLE_S)
        for number in range(plan.cycles):
            observer.timeline.cycles.append(await self._cycle({worker.agent_id: worker for worker in workers}))
            self._report(number + 1)
        await load.end()

    async def _calibrate(self) -> float:
        """Answers per second with every slot busy."""
        plan, observer = self._plan, self._observer
        waves = max(2 * FIRST_WAVES, round(1000 * CALIBRATION_S / plan.latency_ms))
        first, last = FIRST_WAVES * plan.at_once, (waves - 1) * plan.at_once
        self._load.burst(waves * plan.at_once)
        try:
            async with asyncio.timeout(START_S + 2 * CALIBRATION_S):
                await observer.answers(waves * plan.at_once)
        except TimeoutError:
            seen = f"only {len(observer.answered)} of the first {waves * plan.at_once} questions were answered"
            raise StreamingQueueError(f"{self._protocol}: {seen} within {START_S:g} s; see {self._log}") from None
        return (last - first) / (observer.answered[last - 1][1] - observer.answered[first - 1][1])

    async def _cycle(self, workers: Mapping[str, StormWorker]) -> Cycle:
        plan, observer = self._plan, self._observer
        candidates = sorted(observer.in_service)
        victims = self._random.sample(candidates, min(plan.kill, len(candidates) - 1))
        if not victims:
            raise StreamingQueueError(f"{self._protocol}: {len(candidates)} workers are in service, so none can be hit")
        began = observer.now()
        async with asyncio.TaskGroup() as tasks:
            faults = {
                victim: tasks.create_task(self._inflict(workers[victim]), name=f"fault:{victim}") for victim in victims
            }
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BACK_S):
                await observer.all_in_service()
        await asyncio.sleep(max(CALM_S, began + plan.every_s - observer.now()))
        return Cycle(began, {victim: fault.result() for victim, fault in faults.items()}, observer.now())

    async def _inflict(self, worker: StormWorker) -> float:
        """Cause the fault at a worker; return the moment of its end."""
        await inflict(self._plan.fault, worker, self._plan.every_s)
        return self._observer.now()

    def _report(self, number: int) -> None:
        timeline = self._observer.timeline
        cycle = timeline.cycles[-1]
        figures = describe(figures_of(timeline, cycle, is_seen=self._plan.fault.is_seen))
        self._output.info(
            f"{self._protocol}: {number} of {self._plan.cycles}, {self._plan.fault} {', '.join(cycle.over)}: {figures}"
        )
