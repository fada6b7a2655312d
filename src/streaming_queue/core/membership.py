"""The workers of a coordinator; workers may join and leave during a run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

from streaming_queue.comm.composite import CompositeBackend, backend_of
from streaming_queue.comm.probing import answers
from streaming_queue.comm.wire_address import check_wire_address
from streaming_queue.config.redaction import redacted
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.scheduling.scheduler import Scheduler
from streaming_queue.errors import ConfigError, StreamingQueueError, UnknownAgentError
from streaming_queue.telemetry.background import log_failure

_IDLE = {
    "state": "idle", "busy": 0, "limit": 0, "answered": 0, "failed": 0, "reason": None, "since": None,
}  # fmt: skip
_NUMBERED = re.compile(r"Worker-([1-9]\d{0,8})", re.ASCII)


class Membership:
    """Workers of `coordinator_id` in a network; keeps `worker_ids`, the coordinator's own list, current."""

    def __init__(
        self, network: NetworkBase, coordinator_id: str, worker_ids: list[str], protocol_name: str | None = None
    ) -> None:
        """`protocol_name` replaces the name of every worker's protocol in the rows."""
        self.network = network
        self._coordinator_id = coordinator_id
        self.worker_ids = worker_ids
        self._protocol_name = protocol_name
        self._leaving: set[asyncio.Task[None]] = set()
        """The removals in flight; they end with the run at the latest."""
        self.scheduler: Scheduler | None = None
        """The scheduler of the current run, None between runs."""

    def protocol_of(self, worker_id: str) -> str:
        """The name of a worker's protocol, as in rows."""
        return self._protocol_name or self.network.comm_backend.protocol_of(worker_id)

    def workers(self) -> list[dict[str, Any]]:
        """Each worker: id, address, protocol, and its figures in the run: state, busy, limit, answered, failed.

        A worker that is not up also has `reason` and `since`; a lost worker's reason is the last reason of its probes.
        """
        addresses, states = self.network.get_agents(), self.scheduler.pool.states() if self.scheduler else {}
        return [
            {
                "id": worker_id,
                "address": redacted(addresses.get(worker_id)),
                "protocol": self.network.comm_backend.protocol_of(worker_id),
                **self._with_reason(worker_id, states.get(worker_id, _IDLE)),
            }
            for worker_id in self.worker_ids
        ]

    def _with_reason(self, worker_id: str, state: Mapping[str, Any]) -> Mapping[str, Any]:
        last = self.network.health.last_reason(worker_id) if state["state"] == "down" else None
        return state if last is None else {**state, "reason": str(last)}

    def missing(self, worker_ids: Iterable[str]) -> dict[str, StreamingQueueError]:
        """Those of the workers that did not answer their last probe, with the reasons."""
        reasons = {worker_id: self.network.health.last_reason(worker_id) for worker_id in worker_ids}
        return {worker_id: why for worker_id, why in reasons.items() if why is not None and not answers(why)}

    async def add(self, address: str, *, protocol: str | None = None, worker_id: str | None = None) -> str:
        """Add the worker at `address`; returns its id. A worker that was added before keeps its id.

        All addresses come from a message or the control endpoint. So `address` must name a socket, and `protocol` a
        protocol that the workers already use: neither can start a program or import a module.

        Raises:
            ConfigError: the address or the protocol is not allowed, or the id is in use.
            ConnectError: no healthy worker answers there; the error has the reason.
            AuthError: the worker refuses our credential.
        """
        alike = self._alike(protocol)
        backend = self.network.comm_backend
        check_wire_address(address, backend_of(backend, alike).socket_schemes)
        addresses = self.network.get_agents()
        for known in self.worker_ids:
            if addresses.get(known) == address and worker_id in (None, known):
                return known
        worker_id = worker_id or self._next_id()
        if worker_id in self.network.get_topology():
            raise ConfigError(f"the network already has an agent {worker_id!r}; omit the id, or choose another")
        if isinstance(backend, CompositeBackend):
            backend.assign(worker_id, backend.backend_of(alike))
        await self.network.register_agent(worker_id, address)
        try:
            await self.network.connect_agents(self._coordinator_id, worker_id)
            await self.network.health.require([worker_id])
            await self.network.health.require_credential(worker_id)
        except BaseException:
            await self.network.unregister_agent(worker_id)
            raise
        self.worker_ids.append(worker_id)
        if self.scheduler:
            self.scheduler.add_worker(worker_id)
        return worker_id

    async def remove(self, worker_id: str, *, at_once: bool = False) -> None:
        """Remove a worker when its questions have ended; with `at_once` now, and its questions go to other workers.

        Raises UnknownAgentError; its text names the workers.
        """
        if worker_id not in self.worker_ids:
            raise UnknownAgentError(f"no worker {worker_id!r} in this run; its workers: {', '.join(self.worker_ids)}")
        leaving = asyncio.create_task(self._remove(worker_id, at_once=at_once), name=f"leaving:{worker_id}")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        leaving.add_done_callback(log_failure)
        await (leaving if at_once else asyncio.sleep(0))  # now the removal has begun

    async def _remove(self, worker_id: str, *, at_once: bool) -> None:
        if self.scheduler:
            await self.scheduler.remove_worker(worker_id, at_once=at_once)
        if worker_id in self.worker_ids:
            self.worker_ids.remove(worker_id)
            await self.network.unregister_agent(worker_id)

    async def leave(self, address: str) -> str | None:
        """Remove the worker at `address` when its questions have ended; returns its id, None if it is unknown."""
        addresses = self.network.get_agents()
        found = next((worker_id for worker_id in self.worker_ids if addresses.get(worker_id) == address), None)
        if found is not None:
            await self.remove(found)
        return found

    def _next_id(self) -> str:
        numbers = [
            int(match[1]) for agent_id in self.network.get_topology() if (match := _NUMBERED.fullmatch(agent_id))
        ]
        return f"Worker-{max(numbers, default=0) + 1}"

    def _alike(self, protocol: str | None) -> str:
        """A worker that speaks `protocol`; None: any worker, if all speak the same. Raises ConfigError."""
        protocol_of = self.network.comm_backend.protocol_of
        speakers = {protocol_of(worker_id): worker_id for worker_id in self.worker_ids}
        spoken = ", ".join(sorted(speakers))
        if protocol is None and len(speakers) > 1:
            raise ConfigError(f"the workers of this run speak {spoken}: name the protocol of this worker")
        if protocol not in (None, *speakers):
            raise ConfigError(
                f"no worker of this run speaks {protocol}; their protocols: {spoken or 'none'}; to mix protocols, "
                "begin a run with a group of workers for each"
            )
        return speakers[protocol] if protocol else next(iter(speakers.values()), "")
