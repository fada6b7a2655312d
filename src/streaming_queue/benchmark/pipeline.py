"""Whole runs over one protocol, as `stq run` does them: intake, queue, scheduling, durable results, report."""

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
from streaming_queue.runner.processes import WorkerProcess
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.runner.serving import can_be_served
from streaming_queue.telemetry.console import Output
from streaming_queue.testing.relay import LOOPBACK, Relay

WORKERS, SLOTS = 4, 8


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of a whole run: the texts of all questions and answers, and all that went over TCP, both ways.

    `wire` is None where the addresses have no host and port.
    """

    payload: int
    wire: int | None


class Pipeline:
    """Workers that answer at once, and runs in which they are asked; an asynchronous context manager.

    Workers are processes of their own, served as `stq serve worker` does; `pids` are theirs, and of what they start.
    Where the protocol cannot be served, workers are part of each run, in this process. Runs leave their directories
    beside the file of `questions`.
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
                started = (self._start(number) for number in range(self._workers))
                for outcome in await asyncio.gather(*started, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
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
        """The defaults, and workers that answer at once; nothing of the environment's."""
        flags = {"protocol": self.protocol, "core.type": "mock", "mock.latency_ms": 0, **flags}
        return load_config(flags=flags, environ={})

    async def run(self) -> None:
        """Have every question answered once. Raises StreamingQueueError when one was not."""
        await self._run(self._addresses)

    async def weigh(self) -> Weight:
        """Do a run and count its bytes; a relay stands before each worker, so its pace says nothing."""
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
    """A worker that died and was started again has other figures: whoever measures finds the first one gone."""
