"""Which workers answer before a run begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from streaming_queue.config import Config
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.network_health import grouped, unhealthy
from streaming_queue.errors import StreamingQueueError
from streaming_queue.telemetry.events import EventListener, Notice


async def require_some(config: Config, networks: Sequence[NetworkBase], emit: EventListener) -> None:
    """Return if the coordinator, the pools and a worker answer; `emit` gets a warning about workers that do not.

    Raises:
        ConnectError: no worker answers; the error names them and their reasons.
        ConfigError: wrong settings; no worker can be asked at all.
    """
    reasons: dict[str, StreamingQueueError] = {}
    workers: dict[str, str] = {}
    for network in networks:
        addresses = network.get_agents()
        await network.health.require([each for each in addresses if each not in config.roster], emit=emit)
        members = {agent_id: address for agent_id, address in addresses.items() if agent_id in config.roster}
        reasons |= await network.health.missing(members, emit=emit)
        workers |= members
    if reasons and len(reasons) == len(workers):
        raise unhealthy(reasons, workers)
    if reasons:
        said = "; ".join([grouped(reasons, workers), *_absent_protocols(config, reasons, workers)])
        emit(Notice("warning", f"{len(reasons)} of {len(workers)} workers do not answer: {said}; the run probes them"))


def _absent_protocols(config: Config, missing: Iterable[str], workers: Iterable[str]) -> list[str]:
    """The protocols of a mixed network without a worker that answers."""
    every = Counter(config.roster[worker_id].protocol for worker_id in workers)
    absent = Counter(config.roster[worker_id].protocol for worker_id in missing)
    return [f"no worker over {protocol} answers" for protocol, count in absent.items() if count == every[protocol]]
