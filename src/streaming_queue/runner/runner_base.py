"""The flow of a run (the guide's 1.2): network, agents, topology, health, `status`, `dispatch`, report, clean up.

A protocol's runner overrides `protocol`, or any of the three hooks `create_network`, `setup_agents` and
`send_command_to_coordinator`; each has a working default.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from streaming_queue.comm.composite import backend_of
from streaming_queue.config import Config, load_config
from streaming_queue.control.scheduler_control import steer
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.qa_coordinator_base import QACoordinatorBase
from streaming_queue.core.sub_coordinator import SubCoordinatorExecutor
from streaming_queue.errors import ConfigError, StreamingQueueError
from streaming_queue.exit_codes import exit_code
from streaming_queue.llm.choice import choose
from streaming_queue.messages import ReplyMetadata
from streaming_queue.runner.available import require_some
from streaming_queue.runner.backends import create_network_backend
from streaming_queue.runner.event_loop import first, run_fast
from streaming_queue.runner.following import POLL_S, RemoteCoordinator
from streaming_queue.runner.hierarchy import build_pools, describe, spawn
from streaming_queue.runner.outcome import conclude
from streaming_queue.runner.preflight import preflight
from streaming_queue.runner.processes import WorkerProcess
from streaming_queue.runner.roles import coordinator_class, worker_class
from streaming_queue.runner.signals import stop_signals
from streaming_queue.telemetry.console import Output
from streaming_queue.telemetry.events import EventListener, fan_out
from streaming_queue.telemetry.log_lines import LogLines, log_to

DEFAULT_CONFIG = "config.yaml"


class RunnerBase:
    """Does one run from a configuration; `run()` ends the process with the documented exit code.

    `config_path` is a path or a ready `Config`; the default `config.yaml` may be missing, then defaults apply.
    `listeners` get every event, as `output` does; `on_row` receives each row of results, in a thread of its own;
    `rows_after` is the cursor after which it begins (None: at the rows that results.jsonl lacks).
    """

    protocol: ClassVar[str | None] = None

    def __init__(self, config_path: str | Path | Config = DEFAULT_CONFIG, *, output: Output | None = None) -> None:
        self._config_path = config_path
        self.output = output or Output()
        self.listeners: list[EventListener] = []
        self.on_row: Callable[[dict[str, Any]], None] | None = None
        self.rows_after: str | None = None
        self._network: NetworkBase | None = None
        self._subs: list[SubCoordinatorExecutor] = []
        self._workers: list[Any] = []
        self._processes: list[WorkerProcess] = []
        self._signal: int | None = None
        self._stopping = asyncio.Event()

    @cached_property
    def config(self) -> Config:
        """The configuration; subscriptable, as in `config["qa"]["worker"]["count"]`. Raises ConfigError."""
        path = self._config_path
        return path if isinstance(path, Config) else self._load(path, {"protocol": self.protocol})

    @staticmethod
    def _load(path: str | Path, flags: Mapping[str, Any], otherwise: Mapping[str, Any] | None = None) -> Config:
        if str(path) == DEFAULT_CONFIG and not Path(path).exists():
            return load_config(None, flags=flags, otherwise=otherwise)
        return load_config(Path(path), flags=flags, otherwise=otherwise)

    @property
    def network(self) -> NetworkBase:
        """The network of this run. Raises ConfigError before `create_network` has made it."""
        if self._network is None:
            raise ConfigError("the runner has no network yet: create_network() makes it")
        return self._network

    # --- the three hooks ---

    async def create_network(self) -> NetworkBase:
        """The network over the backend to use. Default: those of the configured protocols.

        If the coordinator's backend cannot host agents, the coordinator runs in this process without a wire.
        """
        config = self.config
        backend = create_network_backend(config)
        coordinator_id, protocol = config.qa.coordinator.coordinator_id, config.control_protocol
        if backend.protocol_of(coordinator_id) == "inproc" != protocol:
            self.output.system(f"{protocol} hosts no agents here: {coordinator_id} runs inside the runner")
        return NetworkBase(backend)

    async def setup_agents(self) -> list[str]:
        """Start or register coordinator and workers, connect them, and return the workers' ids.

        Default: a coordinator in this process; workers at the endpoints given, else started as `qa.worker.mode` says;
        in a hierarchy they belong to pools, and the coordinator's workers are sub-coordinators in this process.
        """
        config, network = self.config, self.network
        backend = backend_of(network.comm_backend, config.qa.coordinator.coordinator_id)
        executor = coordinator_class(backend)(config, self.output)
        executor.coordinator.listeners.extend(self.listeners)
        executor.coordinator.on_row = self.on_row
        executor.coordinator.rows_after = self.rows_after
        coordinator = config.qa.coordinator
        await self._place_coordinator(executor)
        if hierarchy := config.network.hierarchy:
            emit = fan_out((self.output, *self.listeners))
            worker_ids = await build_pools(config, hierarchy, network, self._start_workers, self._subs, emit=emit)
        else:
            worker_ids = list(config.roster)
            await self._start_workers(network, worker_ids)
        self._connect_agents(coordinator.coordinator_id)
        executor.coordinator.set_network(network, worker_ids)
        return worker_ids

    async def send_command_to_coordinator(self, command: str) -> dict[str, Any] | None:
        """Send `status` or `dispatch` to the coordinator: `{"result": text}`, and `error` if that failed.

        A coordinator elsewhere answers a dispatch when its run has begun; the runner then asks for its figures.
        """
        detach = {"detach": True} if command == "dispatch" and not self.network.services else {}
        reply = await self._remote.command(command, **detach)
        result: dict[str, Any] = {"result": reply["text"]}
        if "error" in reply:
            result["error"] = reply["error"]
        return result

    # --- the flow ---

    async def run(self) -> NoReturn:
        """Do the run and end the process with its exit code (`exit_codes`)."""
        raise SystemExit(await self.execute())

    async def execute(self) -> int:
        """Do the run and return its exit code; `output` reports every failure."""
        try:
            await asyncio.to_thread(self.output.prepare)
            await preflight(await asyncio.to_thread(lambda: self.config))
            self._network = await self.create_network()
            network = self.config.network
            self._network.message_timeout_s = network.message_timeout
            self._network.idle_timeout_s = network.idle_timeout_s
            try:
                with stop_signals(self._drain, drain_s=self.config.scheduler.drain_s):
                    worker_ids = await self.setup_agents()
                    for coordinator in self._coordinators:
                        coordinator.steering = steer
                    return await self._flow(worker_ids)
            finally:
                await self._network.close()
                for sub in self._subs:
                    await sub.close()
                await asyncio.gather(*(process.close() for process in self._processes))
                for worker in self._workers:
                    await worker.close()
        except StreamingQueueError as error:
            self.output.error(str(error))
            return exit_code(error)
        finally:
            self.output.close()

    async def _flow(self, worker_ids: list[str]) -> int:
        config, output = self.config, self.output
        workers = f"{len(worker_ids)} workers"
        if config.workers:
            counts = Counter(map(self.network.comm_backend.protocol_of, worker_ids))
            workers += " over " + ", ".join(f"{protocol} ({count})" for protocol, count in counts.items())
        output.system(f"protocol {config.protocol}, {workers}: {describe(self.network, self._subs)}")
        for core, worker_group in config.answering.items():
            name = "" if len(worker_group) == len(config.roster) else f"{', '.join(worker_group)}: "
            output.system(f"{name}{choose(core, config.mock).describe()}")
        output.system(limits_line(config))
        await self._require_health()
        output.info(str((await self.send_command_to_coordinator("status") or {}).get("result")))
        if self._signal is not None:  # no run has begun, so there is nothing to drain
            return 128 + self._signal
        return conclude(await self._dispatch(), output, signal_number=self._signal)

    async def _dispatch(self) -> ReplyMetadata:
        """Dispatch the run; returns the coordinator's figures at its end. A lost reply does not change them."""
        remote = None if self.network.services else self._remote
        before = await remote.round_id() if remote else None
        answer = await self.send_command_to_coordinator("dispatch") or {}
        error = answer.get("error")
        if remote:
            return await remote.follow(before=before, error=error)
        figures = self.network.services[0].figures()
        while figures["state"] == "running":
            await asyncio.sleep(POLL_S)
            figures = self.network.services[0].figures()
        if figures["state"] == "idle":
            raise error if isinstance(error, StreamingQueueError) else ConfigError("no run was begun")
        return figures

    async def _require_health(self) -> None:
        """Wait until the agents answer; a signal ends the wait for agents whose processes start.

        With `network.require_all` every agent must answer, else the coordinator and one worker. The run begins with the
        workers that answer, and probes the others.
        """
        emit = fan_out((self.output, *self.listeners))
        networks = (*(sub.network for sub in self._subs), self.network)
        if self.config.network.require_all:
            for network in networks:
                if not self._stopping.is_set():
                    await first(network.require_health(emit=emit), self._stopping.wait())
        elif not self._stopping.is_set():
            await first(require_some(self.config, networks, emit), self._stopping.wait())

    # --- pieces ---

    async def _place_coordinator(self, executor: Any) -> None:
        coordinator = self.config.qa.coordinator
        await spawn(self.network, coordinator.coordinator_id, coordinator.host, coordinator.port or 0, executor)

    def _connect_agents(self, center: str) -> None:
        topology = self.config.network.topology
        if topology == "mesh":
            self.network.setup_mesh_topology()
        elif topology == "custom":
            self.network.setup_custom_topology(self.config.network.edges)
        else:
            self.network.setup_star_topology(center)

    @property
    def _coordinators(self) -> list[QACoordinatorBase]:
        return [service for service in self.network.services if isinstance(service, QACoordinatorBase)]

    @property
    def _remote(self) -> RemoteCoordinator:
        return RemoteCoordinator(self.network, self.config.qa.coordinator.coordinator_id, self.output)

    def _drain(self, number: int) -> None:
        self._signal = number
        self._stopping.set()
        self.output.warning(
            f"{signal.Signals(number).name}: finishing the questions in flight; a second signal ends at once"
        )
        for service in self.network.services:
            service.drain()

    async def _start_workers(self, network: NetworkBase, worker_ids: Sequence[str]) -> None:
        """Register workers in a network, and start the workers that do not run yet."""
        config, roster, ports = self.config, self.config.roster, self.config.ports
        addresses = {worker_id: roster[worker_id].address for worker_id in worker_ids}
        if config.qa.worker.mode == "process":
            addresses |= await self._start_processes(network, [each for each in worker_ids if addresses[each] is None])
        for worker_id, address in addresses.items():
            if address is not None:
                await network.register_agent(worker_id, address)
                continue
            backend = backend_of(network.comm_backend, worker_id)
            executor = worker_class(backend)(config.of_worker(worker_id), self.output)
            if hasattr(executor, "close"):  # executors after the guide have none
                self._workers.append(executor)
            await spawn(network, worker_id, config.qa.worker.host, ports.get(worker_id, 0), executor)

    async def _start_processes(self, network: NetworkBase, worker_ids: Sequence[str]) -> dict[str, str]:
        """Start workers in processes of their own; returns their addresses."""
        config, ports = self.config, self.config.ports
        processes = [
            WorkerProcess(
                config.of_worker(worker_id),
                worker_id,
                host=config.qa.worker.host,
                port=ports.get(worker_id, 0),
                output=self.output,
                moved=network.comm_backend.register_endpoint,
            )
            for worker_id in worker_ids
        ]
        self._processes += processes
        addresses = await asyncio.gather(*(process.start() for process in processes))
        return dict(zip(worker_ids, addresses, strict=True))


def limits_line(config: Config) -> str:
    """The limits of an attempt, for people."""
    network, attempt_s = config.network, config.scheduler.attempt_timeout_s
    parts = [f"{attempt_s:g} s in all"] if attempt_s else []
    parts += [f"{network.idle_timeout_s:g} s between two pieces"] if network.idle_timeout_s else []
    parts += [f"{network.message_timeout:g} s of silence"] if network.message_timeout else []
    return f"an attempt may take {', '.join(parts) or 'any time'}"


def run_async(runner: RunnerBase) -> int:
    """Run `execute()` on the fastest installed event loop; returns the exit code."""
    return run_fast(runner.execute())


def main(runner_class: type[RunnerBase]) -> NoReturn:
    """`python -m streaming_queue.runner.run_<proto> [config.yaml]`."""
    arguments = sys.argv[1:]
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        sys.stderr.write(f"usage: python -m streaming_queue.runner.{Path(sys.argv[0]).stem} [config.yaml]\n")
        raise SystemExit(0 if len(arguments) == 1 else 2)
    log_to(LogLines())
    runner = runner_class(arguments[0]) if arguments else runner_class()
    if arguments and not Path(arguments[0]).exists():
        runner.output.error(f"config file {arguments[0]!r} does not exist")
        raise SystemExit(2)
    raise SystemExit(run_async(runner))
