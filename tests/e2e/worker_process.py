"""An http worker in a process of its own: `worker_process.py LATENCY_MS PORT`; prints its address when ready."""

from __future__ import annotations

import asyncio
import sys

from streaming_queue.comm import registry
from streaming_queue.config import Config
from streaming_queue.core.executors import WorkerExecutor


async def main(latency_ms: float, port: int) -> None:
    executor = WorkerExecutor(Config.of({"mock": {"latency_ms": latency_ms}}))
    handle = await registry.create("http").spawn_local_agent("Worker", "127.0.0.1", port, executor)
    print(handle.base_url, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main(float(sys.argv[1]), int(sys.argv[2])))
