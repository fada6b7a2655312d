"""One worker of ours in a process of its own: an instant mock behind the protocol named on the command line."""

from __future__ import annotations

import asyncio
import sys

from streaming_queue.comm import registry
from streaming_queue.config import Config
from streaming_queue.core.executors import WorkerExecutor


async def serve(protocol: str) -> None:
    backend = registry.create(protocol)
    executor = WorkerExecutor(Config.of({"mock": {"latency_ms": 0}}))
    handle = await backend.spawn_local_agent("Worker", "127.0.0.1", 0, executor)
    print(handle.base_url, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await backend.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1]))
