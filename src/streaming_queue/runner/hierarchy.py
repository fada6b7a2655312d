"""Pools of agents, each behind a sub-coordinator: for a run, or a single pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from streaming_queue.comm import registry
from streaming_queue.config import Config
from streaming_queue.config.pools import Hierarchy
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.sub_coordinator import SubCoordinatorExecutor, log_workers
from streaming_queue.errors import ConfigError
from streaming_queue.masking import masked
from streaming_queue.runner.backends import create_backend
from streaming_queue.telemetry.events import EventListener

MOST_SHOWN = 8
"""Agents of a network that are shown with their addresses."""

StartWorkers = Callable[[NetworkBase, Sequence[str]], Awaitable[None]]
"""Registers workers by name in a network, and starts the workers that do not run yet."""


async def build_pools(
    config: Config,
    hierarchy: Hierarchy,
    network: NetworkBase,
    start_workers: StartWorkers,
    subs: list[SubCoordinatorExecutor],
    *,
    emit: EventListener,
) -> list[str]:
    """Host the pools of a run, the coordinator's own in its `network`; returns their ids.

    Each sub-coordinator is put into `subs` as soon as it exists, a parent before its children. The caller closes them.
    Raises like `spawn` and `WorkerProcess.start`.
    """

    async def host(pool_id: str, parent: NetworkBase) -> None:
        agent_ids = hierarchy.members[pool_id]
        protocol = hierarchy.pools[pool_id].protocol or config.protocol
        slots = {agent_id: config.qa.worker.most_at_once * hierarchy.leaves(agent_id) for agent_id in agent_ids}
        sub = await _sub_coordinator(pool_id, protocol, slots, config, emit)
        subs.append(sub)
        for agent_id in agent_ids:
            if agent_id in hierarchy.pools:
                await host(agent_id, sub.network)
        await start_workers(sub.network, [each for each in agent_ids if each not in hierarchy.pools])
        await _connect_star(sub)
        await spawn(parent, pool_id, config.qa.worker.host, 0, sub)

    for pool_id in hierarchy.top:
        await host(pool_id, network)
    return list(hierarchy.top)


async def make_pool(
    pool_id: str, addresses: Sequence[str], protocol: str, config: Config, *, emit: EventListener = log_workers
) -> SubCoordinatorExecutor:
    """A sub-coordinator over running agents, ready to be hosted. The caller closes it.

    The agents speak `protocol`. Each takes `qa.worker.concurrency` questions at a time, and its address is its id.
    Raises ConfigError on a protocol or an address that cannot be used.
    """
    if len(set(addresses)) < len(addresses):
        raise ConfigError(f"pool {pool_id!r}: an address is given twice; name each agent once")
    slots = dict.fromkeys(addresses, config.qa.worker.most_at_once)
    sub = await _sub_coordinator(pool_id, protocol, slots, config, emit)
    try:
        for address in addresses:
            await sub.network.register_agent(address, address)
        await _connect_star(sub)
    except BaseException:
        await sub.close()
        raise
    return sub


def describe(network: NetworkBase, subs: Sequence[SubCoordinatorExecutor]) -> str:
    """The first agents with their addresses, as a tree: a pool has its protocol and its agents in brackets."""
    networks = {sub.agent_id: sub.network for sub in subs}
    words = []
    agents = network.get_agents()
    for agent_id, address in islice(agents.items(), MOST_SHOWN):
        pool = networks.get(agent_id)
        if pool is None:
            words.append(f"{agent_id} {masked(address)}")
        else:
            protocol = pool.comm_backend.protocol_of(agent_id)
            words.append(f"{agent_id} {address} ({protocol}: {describe(pool, subs)})")
    if len(agents) > MOST_SHOWN:
        words.append(f"and {len(agents) - MOST_SHOWN} more")
    return ", ".join(words)


async def spawn(network: NetworkBase, agent_id: str, host: str, port: int, executor: Any) -> None:
    """Host an agent in this process and register it. Raises like `spawn_local_agent` and `register_agent`."""
    handle = await network.comm_backend.spawn_local_agent(agent_id, host, port, executor)
    await network.register_agent(agent_id, handle.base_url)


async def _sub_coordinator(
    pool_id: str, protocol: str, slots: Mapping[str, int], config: Config, emit: EventListener
) -> SubCoordinatorExecutor:
    await asyncio.to_thread(registry.load, protocol)  # its library may be slow to import
    network = NetworkBase(
        create_backend(config, protocol),
        message_timeout_s=config.network.message_timeout,
        idle_timeout_s=config.network.idle_timeout_s,
    )
    return SubCoordinatorExecutor(
        pool_id,
        network,
        slots,
        emit=emit,
        probe_interval_s=min(1.0, config.network.health_check_interval),
        gone_after_s=config.scheduler.gone_after_s,
        max_losses=config.scheduler.max_attempts,
    )


async def _connect_star(sub: SubCoordinatorExecutor) -> None:
    await sub.network.register_agent(sub.agent_id)
    sub.network.setup_star_topology(sub.agent_id)
