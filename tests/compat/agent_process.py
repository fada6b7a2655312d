"""An agent of ours behind A2A: `agent_process.py worker|coordinator|guarded LATENCY_MS`; prints its address when ready.

`guarded` is a worker that takes the bearer credential `s3cret` only.
"""

from __future__ import annotations

import asyncio
import sys

from streaming_queue.comm.base import HostOptions
from streaming_queue.config import Config
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.protocol_backend.a2a.coordinator import A2ACoordinatorExecutor
from streaming_queue.protocol_backend.a2a.worker import A2AWorkerExecutor


async def authenticate(credential: str) -> str | None:
    return "alice" if credential == "s3cret" else None


async def main(role: str, latency_ms: float) -> None:
    config = Config.of({"mock": {"latency_ms": latency_ms}})
    executor = A2ACoordinatorExecutor(config) if role == "coordinator" else A2AWorkerExecutor(config)
    options = HostOptions(authenticator=authenticate if role == "guarded" else None)
    backend = A2ACommBackend(host_options=options)
    handle = await backend.spawn_local_agent(role, "127.0.0.1", 0, executor)
    print(handle.base_url, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await backend.close()


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
