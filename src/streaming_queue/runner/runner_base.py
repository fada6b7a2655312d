"""The flow of a run (the guide's 1.2): network, agents, topology, health, `status`, `dispatch`, report, clean up.

A protocol's runner overrides `protocol`, or any of the three hooks `create_network`, `setup_agents` and
`send_command_to_coordinator`; each has a working default.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from streaming_queue.comm import registry
from streaming_queue.comm.base import BaseCommBackend, HostOptions
from streaming_queue.comm.composite import CompositeBackend
from streaming_queue.comm.context import CallContext, calling
from streaming_queue.config import Config, load_config
from streaming_queue.core.executors import CoordinatorExecutor, WorkerExecutor
from streaming_queue.core.network_base import RUNNER_ID, NetworkBase
from streaming_queue.errors import (
    ConfigError,
    ConnectError,
    ProtocolError,
    StreamingQueueError,
    error_from_event,
)
from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.llm.choice import choose
from streaming_queue.messages import Reply
from streaming_queue.runner.preflight import preflight
from streaming_queue.telemetry.console import Output
from streaming_queue.telemetry.events import Listener

DEFAULT_CONFIG = "config.yaml"
POLL_S = 1.0


class RunnerBase:
    """Runs one round from a configuration; `run()` ends the process with the documented exit code.

    `config_path` is a path or a ready `Config`; the default `config.yaml` may be missing, then defaults apply.
    `listeners` are told every event beside `output`; `on_row` is told each row of results, in a thread of its own.
    """

    protocol: ClassVar[str | None] = None

    def __init__(self, config_path: str | Path | Config = DEFAULT_CONFIG, *, output: Output | None = None) -> None:
        self._config_path = config_path
        self.output = output or Output()
        self.listeners: list[Listener] = []
        self.on_row: Callable[[dict[str, Any]], None] | None = None
        self._network: NetworkBase | None = None
        self._workers: list[WorkerExecutor] = []
        self._signal: int | None = None

    @cached_property
    def config(self) -> Config:
        """The configuration; subscriptable, as in `config["qa"]["worker"]["count"]`. Raises ConfigError."""
        path = self._config_path
        if isinstance(path, Config):
            return path
        flags = {"protocol": self.protocol} if self.protocol else {}
        if str(path) == DEFAULT_CONFIG and not Path(path).exists():
            return load_config(None, flags=flags)
        return load_config(Path(path), flags=flags)

    @property
    def network(self) -> NetworkBase:
        """The network of this run. Raises ConfigError before `create_network` has made it."""
        if self._network is None:
            raise ConfigError("the runner has no network yet: create_network() makes it")
        return self._network

    # --- the three hooks ---

    async def create_network(self) -> NetworkBase:
        """The network over the backend to use. Default: the configured protocol's.

        Where that cannot host agents, the coordinator is in this process and reached by function calls.
        """
        options: dict[str, Any] = {}
        if self.config.network.allow_public:
            options["host_options"] = HostOptions(allow_public=True)
        backend = registry.create(self.config.protocol, **options)
        if can_host(backend):
            return NetworkBase(comm_backend=backend)
        composite = CompositeBackend(backend)
        coordinator_id = self.config.qa.coordinator.coordinator_id
        composite.assign(coordinator_id, registry.create("inproc"))
        self.output.system(f"{self.config.protocol} hosts no agents here: {coordinator_id} runs inside the runner")
        return NetworkBase(comm_backend=composite)

    async def setup_agents(self) -> list[str]:
        """Start or register coordinator and workers, lay the edges, and return the workers' ids.

        Default: a coordinator in this process; workers at `qa.worker.endpoints`, else in this process.
        """
        config, network = self.config, self.network
        executor = CoordinatorExecutor(config, self.output)
        executor.coordinator.listeners.extend(self.listeners)
        executor.coordinator.on_row = self.on_row
        coordinator = config.qa.coordinator
        await self._spawn(coordinator.coordinator_id, coordinator.host, coordinator.port or 0, executor)
        worker_ids = []
        endpoints = config.qa.worker.endpoints
        for number in range(len(endpoints) or config.qa.worker.count):
            worker_id = f"Worker-{number + 1}"
            if endpoints:
                await network.register_agent(worker_id, endpoints[number])
            else:
                start = config.qa.worker.start_port
                worker = WorkerExecutor(config, self.output)
                self._workers.append(worker)
                await self._spawn(worker_id, config.qa.worker.host, start + number if start else 0, worker)
            worker_ids.append(worker_id)
        self._lay_edges(coordinator.coordinator_id)
        executor.coordinator.set_network(network, worker_ids)
        return worker_ids

    async def send_command_to_coordinator(self, command: str) -> dict[str, Any] | None:
        """Send `status` or `dispatch` to the coordinator: `{"result": text}`, and `error` where that failed."""
        reply = await self._command(command)
        result: dict[str, Any] = {"result": reply["text"]}
        if "error" in reply:
            result["error"] = reply["error"]
        return result

    # --- the flow ---

    async def run(self) -> NoReturn:
        """Do the run and end the process with its exit code (`exit_codes`)."""
        raise SystemExit(await self.execute())

    async def execute(self) -> int:
        """Do the run and return its exit code; every failure is told through `output`."""
        try:
            await asyncio.to_thread(self.output.prepare)
            await preflight(self.config)
            self._network = await self.create_network()
            self._network.message_timeout_s = self.config.network.message_timeout
            try:
                with self._signals():
                    return await self._flow(await self.setup_agents())
            finally:
                await self._network.close()
                for worker in self._workers:
                    await worker.close()
        except StreamingQueueError as error:
            self.output.error(str(error))
            return exit_code(error)
        finally:
            self.output.close()

    async def _flow(self, worker_ids: list[str]) -> int:
        config, output = self.config, self.output
        where = ", ".join(f"{agent_id} {address}" for agent_id, address in self.network.get_agents().items())
        output.system(f"protocol {config.protocol}, {len(worker_ids)} workers: {where}")
        if not config.qa.worker.endpoints:
            output.system(choose(config.core, config.mock).describe())
        await self._require_health()
        output.info(str((await self.send_command_to_coordinator("status") or {}).get("result")))
        if self._signal is not None:  # nothing was begun, so nothing is to be drained
            return 128 + self._signal
        answer = await self.send_command_to_coordinator("dispatch") or {}
        status = await self._await_end(answer.get("error"))
        return self._conclude(status)

    async def _require_health(self) -> None:
        health = await self.network.health_check()
        addresses = self.network.get_agents()
        silent = [f"{agent_id} at {addresses[agent_id]}" for agent_id, healthy in health.items() if not healthy]
        if silent:
            raise ConnectError(f"no healthy agent answers: {', '.join(silent)}; start it there or correct the address")

    async def _await_end(self, error: object) -> Mapping[str, Any]:
        """The coordinator's figures once its round has ended; a lost dispatch reply does not end the round."""
        while True:
            status = await self._figures()
            if "state" not in status:
                raise (
                    error
                    if isinstance(error, StreamingQueueError)
                    else ProtocolError(
                        f"{self.config.qa.coordinator.coordinator_id} reported no figures with its status: "
                        "whether the round succeeded is unknown here; the coordinator's own records say"
                    )
                )
            if status["state"] != "running":
                if status["state"] == "idle":
                    raise error if isinstance(error, StreamingQueueError) else ProtocolError("no round was begun")
                return status
            await asyncio.sleep(POLL_S)

    async def _figures(self) -> Mapping[str, Any]:
        """The coordinator's figures: asked directly where it is in this process, else with its status."""
        for service in self.network.services:
            return service.figures()
        reply = await self._command("status")
        if "error" in reply:
            raise reply["error"]
        return reply.get("metadata") or {}

    def _conclude(self, status: Mapping[str, Any]) -> int:
        state, failed, total = status["state"], status.get("failed", 0), status.get("total", 0)
        told = status.get("error")
        error = error_from_event(told) if isinstance(told, Mapping) else None
        figures = f"{status.get('done', 0)} of {total} questions answered, {failed} failed"
        if state == "done":
            (self.output.warning if failed else self.output.success)(f"{figures}: {status.get('directory', '')}")
            return ExitCode.SOME_FAILED if failed else ExitCode.OK
        if error is not None:
            self.output.error(str(error))
        if state == "stopped":
            self.output.warning(f"stopped, {figures}; go on with: stq resume {status.get('directory')}")
        if self._signal is not None and error is None:
            return 128 + self._signal
        return exit_code(error or ProtocolError(f"the coordinator's round is {state}"))

    # --- pieces ---

    async def _spawn(self, agent_id: str, host: str, port: int, executor: Any) -> None:
        handle = await self.network.comm_backend.spawn_local_agent(agent_id, host, port, executor)
        await self.network.register_agent(agent_id, handle.base_url)

    def _lay_edges(self, center: str) -> None:
        topology = self.config.network.topology
        if topology == "mesh":
            self.network.setup_mesh_topology()
        elif topology == "custom":
            self.network.setup_custom_topology(self.config.network.edges)
        else:
            self.network.setup_star_topology(center)

    async def _command(self, command: str) -> Reply:
        with calling(CallContext(kind="command")):
            return await self.network.route_message(
                RUNNER_ID, self.config.qa.coordinator.coordinator_id, {"text": command}
            )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """First SIGINT or SIGTERM: drain. Second: end at once."""
        loop = asyncio.get_running_loop()

        def received(number: int) -> None:
            if self._signal is not None:
                os._exit(128 + number)
            self._signal = number
            self.output.warning(f"{signal.Signals(number).name}: finishing what is in flight; once more ends at once")
            for service in self.network.services:
                service.drain()

        numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
        try:
            for number in numbers:
                loop.add_signal_handler(number, received, number)
        except (NotImplementedError, RuntimeError):  # Windows, or a loop outside of the main thread
            numbers = ()
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def can_host(backend: BaseCommBackend) -> bool:
    """Whether the backend brings a host of its own."""
    return type(backend).spawn_local_agent is not BaseCommBackend.spawn_local_agent


@contextlib.contextmanager
def _calm_collector() -> Iterator[None]:
    """Spare the garbage collector what is there to stay: walking the imports took a tenth of the CPU per question."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(10_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def run_async(runner: RunnerBase) -> int:
    """`execute()` on the fastest event loop at hand; returns the exit code."""
    with _calm_collector():
        if sys.platform == "win32":
            return asyncio.run(runner.execute())
        import uvloop

        return uvloop.run(runner.execute())


def main(runner_class: type[RunnerBase]) -> NoReturn:
    """`python -m streaming_queue.runner.run_<proto> [config.yaml]`."""
    arguments = sys.argv[1:]
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        sys.stderr.write(f"usage: python -m streaming_queue.runner.run_{runner_class.protocol} [config.yaml]\n")
        raise SystemExit(0 if len(arguments) == 1 else 2)
    runner = runner_class(arguments[0]) if arguments else runner_class()
    if arguments and not Path(arguments[0]).exists():
        runner.output.error(f"config file {arguments[0]!r} does not exist")
        raise SystemExit(2)
    raise SystemExit(run_async(runner))
