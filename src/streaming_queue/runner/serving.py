"""Serves one agent in a process until a signal: ready, serving, draining, stopped."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

from streaming_queue.comm import registry
from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.probing import answers
from streaming_queue.config import AUTO, Config
from streaming_queue.core.executors import WorkerExecutor
from streaming_queue.errors import ConfigError
from streaming_queue.exit_codes import ExitCode
from streaming_queue.masking import masked
from streaming_queue.runner.backends import can_host, create_backend
from streaming_queue.runner.event_loop import first
from streaming_queue.runner.hierarchy import make_pool
from streaming_queue.runner.registration import Registration
from streaming_queue.runner.roles import load_executor, worker_class
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.runner.signals import stop_signals
from streaming_queue.telemetry.console import Output

Ready = Callable[[str], None]
"""Receives the agent's address once the agent answers."""

STOP_MARGIN_S = 5.0


async def serve_worker(
    config: Config,
    backend: BaseCommBackend,
    *,
    agent_id: str,
    host: str,
    port: int,
    output: Output,
    ready: Ready,
    executor: str | None = None,
    pool: Sequence[str] = (),
    pool_protocol: str | None = None,
    join: str | None = None,
    until: Awaitable[Any] | None = None,
    drain_s: float | None = None,
) -> int:
    """Host a worker until SIGTERM, SIGINT or the end of `until`; then drain for at most `drain_s`, and return 0.

    `executor` is a `package.module:Class` in place of the protocol's own. With a `pool` (addresses of agents that speak
    `pool_protocol`, by default the same), it is their sub-coordinator. With `join` it joins the coordinator at that
    address, and deregisters when it stops. `drain_s` defaults to `scheduler.drain_s`.

    Only messages to the coordinator carry `network.operator_token`; the executor's configuration does not contain it.

    Raises:
        AuthError: it may not join that coordinator.
        ConfigError: the configuration does not let it answer or be hosted.
        ConnectError: the port is in use.
    """
    if config.protocol == AUTO:
        raise ConfigError("protocol auto is a choice of a run: name the protocol of this worker with -p")
    if not can_host(type(backend)):
        raise ConfigError(
            f"protocol {config.protocol!r} hosts no agents: choose one of those with `host` in stq protocol list"
        )
    stop = asyncio.Event()
    joining, config = config, config.without_operator()

    def received(number: int) -> None:
        output.warning(
            f"{signal.Signals(number).name}: finishing the questions in flight; a second signal ends at once"
        )
        stop.set()

    async with AsyncExitStack() as stack:
        stack.push_async_callback(backend.close)
        worker: Any
        if pool:
            worker = await make_pool(agent_id, pool, pool_protocol or config.protocol, config)
            stack.push_async_callback(worker.close)
            output.system(worker.description)
        elif executor is None:
            worker = worker_class(backend)(config, output)
            if isinstance(worker, WorkerExecutor):
                stack.push_async_callback(worker.close)
                output.system(worker.worker.choice.describe())
        else:
            worker = load_executor(executor, config, output)
            _refuse_foreign(worker, executor, backend)
        stop_s = config.scheduler.drain_s if drain_s is None else drain_s
        stack.enter_context(stop_signals(received, drain_s=stop_s))
        handle = await backend.spawn_local_agent(agent_id, host, port, worker)
        if not is_network_address(handle.base_url):
            raise ConfigError(
                f"protocol {config.protocol!r}: {handle.base_url} has no port, so only its own process can ask it; "
                "choose another protocol to serve it or for qa.worker.mode process"
            )
        ready(handle.base_url)
        registration = Registration(joining, join, handle.base_url, output) if join else None
        await first(stop.wait(), until, registration.keep() if registration else None)
        if registration:
            await registration.leave()
        if drain := getattr(handle, "drain", None):
            await drain(stop_s)
        await handle.stop()
        output.system(f"{agent_id} has stopped")
    return ExitCode.OK


async def can_be_served(config: Config) -> bool:
    """Whether other processes can ask a worker that is served over the configured protocol.

    Raises:
        UnknownProtocolError, BackendNotInstalledError: from `comm.registry.load`.
        ConfigError: the protocol hosts no agents.
    """
    await asyncio.to_thread(registry.load, config.protocol)  # it reads files
    backend = create_backend(config)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(backend.close)
        if not can_host(type(backend)):
            raise ConfigError(f"protocol {config.protocol!r} hosts no agents, so no agent can be asked over it")
        worker = WorkerExecutor(config, Output(quiet=True))
        stack.push_async_callback(worker.close)
        handle = await backend.spawn_local_agent("Worker-1", config.qa.worker.host, 0, worker)
        return is_network_address(handle.base_url)


def is_network_address(address: str) -> bool:
    """Whether another process can ask an agent at this address: it names a port."""
    return urlsplit(address).port is not None


def _refuse_foreign(executor: Any, target: str, backend: BaseCommBackend) -> None:
    """Raise ConfigError for an executor of another protocol's library, which this protocol cannot host."""
    library = next((cls.__module__.partition(".")[0] for cls in type(executor).__mro__ if _is_sdk(cls)), None)
    if library is not None and library != backend.name:
        raise ConfigError(
            f"executor {target!r} is written for the {library} library: serve it with -p {library}, or give it the "
            "guide's interface: `async execute(context, event_queue)` that enqueues an agent_text_message"
        )


def _is_sdk(cls: type) -> bool:
    return cls.__module__.startswith("a2a.")


class CoordinatorService(RunnerBase):
    """A coordinator that waits for `dispatch`, with the workers that the configuration names or starts.

    With `output.resume` the run in its directory goes on at once.
    """

    ready: Ready

    async def _flow(self, worker_ids: list[str]) -> int:
        if not self._coordinators:
            raise ConfigError(f"protocol {self.config.protocol!r} has no coordinator to serve")
        coordinator = self._coordinators[0]
        if self.config.output.resume:
            coordinator.begin_round()
        addresses = self.network.get_agents()
        reasons = await self.network.probe(worker_ids)
        for worker_id, reason in reasons.items():
            state = "" if answers(reason) else f", which does not answer yet: {reason}"
            self.output.system(f"{worker_id} at {masked(addresses[worker_id])}{state}")
        if self.config.network.token is not None and self.config.network.operator_token is None:
            self.output.warning(
                "network.token may only ask: dispatch by message needs network.operator_token "
                "(STQ_NETWORK__OPERATOR_TOKEN), here and where `stq dispatch` runs"
            )
        self.ready(addresses[coordinator.coordinator_id])
        await self._stopping.wait()
        if coordinator.is_running:
            settings = self.config.scheduler
            await coordinator.ended(settings.drain_s + STOP_MARGIN_S)
        self.output.system(f"{coordinator.coordinator_id} has stopped")
        return ExitCode.OK
