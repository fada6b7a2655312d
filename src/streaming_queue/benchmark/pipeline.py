"""Whole runs over one protocol, as in `stq run`: intake, queue, scheduling, durable results, report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from streaming_queue.benchmark.figures import family
from streaming_queue.config import Config, load_config
from streaming_queue.errors import StreamingQueueError
from streaming_queue.exit_codes import ExitCode
from streaming_queue.runner.processes import WorkerProcess, start_all
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.runner.serving import can_be_served
from streaming_queue.telemetry.console import Output
from streaming_queue.testing.relay import LOOPBACK, Relay

WORKERS, SLOTS = 4, 8


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of a whole run: the texts of all questions and answers, and everything on TCP, both ways.

    `wire` is None if the addresses have no host and port.
    """

    payload: int
    wire: int | None


class Pipeline:
    """Workers that answer at once, and runs that ask them; an asynchronous context manager.

    Workers are processes, as with `stq serve worker`; `pids` are theirs and those of their child processes. If the
    protocol cannot be served, workers are in this process, in each run. The directories of the runs are beside the
    file of `questions`.
    """

    def __init__(self, protocol: str, questions: Path, *, workers: int = WORKERS) -> None:
        self.protocol = protocol
        self.pids: list[int] = []
        self._questions = questions
        self._workers = workers
        self._addresses: list[str] = []
        self._runs = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start the workers.

        Raises:
            UnknownProtocolError, BackendNotInstalledError: from `comm.registry.load`.
            ConfigError: the protocol hosts no agents.
            ConnectError: a worker was not ready within a minute.
        """
        async with self._stack:
            if await can_be_served(self._config({})):
                await start_all(map(self._start, range(self._workers)))
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, number: int) -> None:
        worker = WorkerProcess(
            self._config({}), f"Worker-{number + 1}", host=LOOPBACK, port=0, output=Output(quiet=True), moved=_ignored
        )
        self._stack.push_async_callback(worker.close)
        self._addresses.append(await worker.start())
        if worker.pid is not None:
            self.pids += await asyncio.to_thread(family, worker.pid)

    def _config(self, flags: Mapping[str, Any]) -> Config:
        """The defaults, with workers that answer at once. The environment has no influence."""
        flags = {"protocol": self.protocol, "core.type": "mock", "mock.latency_ms": 0, **flags}
        return load_config(flags=flags, environ={})

    async def run(self) -> None:
        """Run: each question is answered once. Raises StreamingQueueError if one is not."""
        await self._run(self._addresses)

    async def weigh(self) -> Weight:
        """Run and count the bytes. A relay before each worker slows the run."""
        texts: list[int] = []
        async with AsyncExitStack() as stack:
            relays = [relay for address in self._addresses if (relay := Relay.to(address)) is not None]
            for relay in relays:
                await stack.enter_async_context(relay)
            relayed = [relay.address(address) for relay, address in zip(relays, self._addresses, strict=False)]
            await self._run(relayed, lambda row: texts.append(row["request_bytes"] + row["response_bytes"]))
            wire = sum(relay.sent.total + relay.received.total for relay in relays)
        return Weight(sum(texts), wire if relays else None)

    async def _run(self, addresses: list[str], on_row: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._runs += 1
        config = self._config(
            {
                "qa.coordinator.data_file": str(self._questions),
                "qa.worker.endpoints": addresses,
                "qa.worker.count": self._workers,
                "qa.worker.concurrency": SLOTS,
                "output.dir": str(self._questions.parent / f"{self.protocol.replace(':', '.')}-{self._runs}"),
            }
        )
        runner = RunnerBase(config, output=Output(quiet=True))
        runner.on_row = on_row
        code = await runner.execute()
        if code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise StreamingQueueError(f"protocol {self.protocol!r}: a run ended with {code}, so nothing was measured")


async def _ignored(agent_id: str, address: str) -> None:
    """Ignore a restarted worker: `measure` fails because the first process has ended."""
