"""The agents of situation B: a coordinator and its workers in a process of their own, on the guide's fixed ports.

They run behind the backend's own host, which carries text and nothing else.
"""

from __future__ import annotations

import asyncio
import sys

from ...config import load_config
from ...core.network_base import NetworkBase
from .comm import ToyCommBackend
from .coordinator import ToyCoordinatorExecutor
from .worker import ToyWorkerExecutor


async def main() -> None:
    config = load_config(None, sets=["mock.latency_ms=1"])
    backend = ToyCommBackend()
    network = NetworkBase(comm_backend=backend)
    coordinator = ToyCoordinatorExecutor({"qa": {"coordinator": {"limit": 20}}})
    await backend.spawn_local_agent("Coordinator-1", "127.0.0.1", 9998, coordinator)
    await network.register_agent("Coordinator-1", "http://127.0.0.1:9998")
    for number in range(2):
        worker_id, port = f"Worker-{number + 1}", 10001 + number
        await backend.spawn_local_agent(worker_id, "127.0.0.1", port, ToyWorkerExecutor(config))
        await network.register_agent(worker_id, f"http://127.0.0.1:{port}")
    network.setup_star_topology("Coordinator-1")
    coordinator.coordinator.set_network(network)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
