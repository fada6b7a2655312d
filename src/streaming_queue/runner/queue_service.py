"""Serves a queue of many runs over HTTP until a signal."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.host.asgi import serve
from streaming_queue.comm.probing import answers
from streaming_queue.config import Config
from streaming_queue.core.run import FULL_S
from streaming_queue.exit_codes import ExitCode
from streaming_queue.llm.choice import choose
from streaming_queue.masking import masked
from streaming_queue.queue.run_directories import DirectoryRunStore
from streaming_queue.queue.runs import QueueOfRuns
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.runner.serving import Ready
from streaming_queue.service.app import make_app
from streaming_queue.service.live import LiveQueue
from streaming_queue.service.requests import DEFAULT_RUN
from streaming_queue.telemetry.console import Output
from streaming_queue.telemetry.events import Event, Notice, Waiting, WaitOver, WorkerDown, WorkerUp

_SHOWN = (Notice, Waiting, WaitOver, WorkerDown, WorkerUp)
_REMEDY = "keys for callers are not built yet, so a queue is served on this machine only"


class QueueService(RunnerBase):
    """The queue in `directory` over HTTP, with the workers that the configuration names or starts."""

    ready: Ready

    def __init__(self, config: Config, directory: Path, *, host: str, port: int, output: Output) -> None:
        super().__init__(config, output=output)
        self._directory = directory
        self._host, self._port = host, port

    async def _place_coordinator(self, executor: Any) -> None:
        del executor  # it asks the workers, and takes no messages itself
        await self.network.register_agent(self.config.qa.coordinator.coordinator_id)

    async def _flow(self, worker_ids: list[str]) -> int:
        config, coordinator = self.config, self._coordinators[0]
        addresses, reasons = self.network.get_agents(), await self.network.probe(worker_ids)
        for worker_id, reason in reasons.items():
            state = "" if answers(reason) else f", which does not answer yet: {reason}"
            self.output.system(f"{worker_id} at {masked(addresses[worker_id])}{state}")
        for core in config.answering:
            self.output.system(choose(core, config.mock).describe())
        async with AsyncExitStack() as stack:
            store = await DirectoryRunStore.open_directory(
                self._directory, lease_s=config.scheduler.lease_s, full_s=FULL_S, on_full=self._on_full
            )
            queue = await QueueOfRuns.open(store)
            stack.push_async_callback(queue.close)
            await queue.create(DEFAULT_RUN)
            live = LiveQueue(coordinator, queue, self._show)
            server = await serve(
                make_app(queue, live),
                host=self._host,
                port=self._port,
                options=HostOptions(),
                name=f"the queue in {self._directory}",
                open_paths=("/healthz", "/readyz"),
                remedy=_REMEDY,
            )
            stack.push_async_callback(server.stop)
            self.ready(server.base_url)
            self.output.info(f"POST questions to {server.base_url}/v1/runs/{DEFAULT_RUN}/questions")
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(live.run(), name="live-queue")
                stopping = tasks.create_task(self._stopping.wait(), name="stopping")
                await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
                live.drain()
                stopping.cancel()
        self.output.system("the queue has stopped; its open questions keep their place")
        return ExitCode.OK

    def _on_full(self, is_full: bool) -> None:
        text = "the disk is full; the queue waits for space" if is_full else "there is space again; the queue goes on"
        self.output.warning(text)

    def _show(self, event: Event) -> None:
        if isinstance(event, _SHOWN):
            self.output(event)
