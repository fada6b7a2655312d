"""The agents of situation B: a coordinator and its workers in a process of their own, on the guide's fixed ports.

Its host carries the replies' metadata, as `comm.execution` collects it, so that figures reach the runner.
"""

from __future__ import annotations

import asyncio
import json
import sys

from ...comm.context import RequestContext
from ...comm.execution import Execution
from ...config import load_config
from ...core.network_base import NetworkBase
from .comm import ToyCommBackend
from .coordinator import ToyCoordinatorExecutor
from .worker import ToyWorkerExecutor


async def host(agent_id: str, port: int, executor) -> None:
    async def serve(reader, writer) -> None:
        message = json.loads(await reader.readline())
        if message["type"] == "ping":
            reply = {"text": "pong"}
        else:
            end = await Execution(executor, RequestContext({"text": message["data"]}, agent_id=agent_id)).result()
            reply = {"error": end} if end["type"] == "agent_error" else {"text": end["data"], **end}
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
        writer.close()

    await asyncio.start_server(serve, "127.0.0.1", port)


async def main() -> None:
    config = load_config(None)
    network = NetworkBase(comm_backend=ToyCommBackend())
    coordinator = ToyCoordinatorExecutor({"qa": {"coordinator": {"limit": 20}}, "mock": {"latency_ms": 1}})
    for number in range(2):
        await host(f"Worker-{number + 1}", 10001 + number, ToyWorkerExecutor(config))
        await network.register_agent(f"Worker-{number + 1}", f"http://127.0.0.1:{10001 + number}")
    await network.register_agent("Coordinator-1", "http://127.0.0.1:9998")
    network.setup_star_topology("Coordinator-1")
    coordinator.coordinator.set_network(network)
    await host("Coordinator-1", 9998, coordinator)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
