"""Workers that a storm hits: each is a process, behind a relay if the network is to fail."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from streaming_queue.config import Config
from streaming_queue.errors import ConfigError
from streaming_queue.runner.processes import WorkerProcess
from streaming_queue.telemetry.console import Output

if TYPE_CHECKING:
    from streaming_queue.testing.relay import Relay

Moved = Callable[[str, str], Awaitable[None]]


class StormWorker:
    """A worker process that is started again when it dies. `address` is its relay's, if it has one, else its own."""

    def __init__(self, process: WorkerProcess) -> None:
        self.agent_id = process.agent_id
        self.process = process
        self.address = ""
        self.relay: Relay | None = None

    @classmethod
    async def start(
        cls, config: Config, agent_id: str, *, relayed: bool, output: Output, moved: Moved, stack: AsyncExitStack
    ) -> StormWorker:
        """Start a worker that ends with `stack`. `moved` gets the worker's new address when it changes.

        Raises:
            ConfigError, ConnectError: as `WorkerProcess.start`; ConfigError also if its address has no port.
            BackendNotInstalledError: the relay needs the extra `testing`.
        """

        async def moved_behind(agent_id: str, address: str) -> None:
            await moved(agent_id, worker.relay.address(address) if worker.relay else address)

        host = config.qa.worker.host
        process = WorkerProcess(config, agent_id, host=host, port=0, output=output, moved=moved_behind, lasted_s=0.0)
        worker = cls(process)
        stack.push_async_callback(process.close)
        worker.address = await process.start()
        if relayed:
            worker.relay = await stack.enter_async_context(await asyncio.to_thread(_relay_to, worker.address))
            worker.address = worker.relay.address(worker.address)
        return worker

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        if self.process.pid is None:
            raise RuntimeError(f"{self.agent_id} has no process to send {number.name} to")
        os.kill(self.process.pid, number)


def _relay_to(address: str) -> Relay:
    from streaming_queue.testing.relay import Relay

    relay = Relay.to(address)
    if relay is None:
        raise ConfigError(f"{address} has no port, so its network cannot fail")
    return relay
