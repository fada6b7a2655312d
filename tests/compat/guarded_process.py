"""A worker behind A2A that takes the bearer credential `s3cret` only: `guarded_process.py LATENCY_MS`; prints its
address when ready.
"""

from __future__ import annotations

import asyncio
import sys

from streaming_queue.comm.base import HostOptions
from streaming_queue.config import Config
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.protocol_backend.a2a.worker import A2AWorkerExecutor


async def authenticate(credential: str) -> str | None:
    return "alice" if credential == "s3cret" else None


async def main(latency_ms: float) -> None:
    executor = A2AWorkerExecutor(Config.of({"mock": {"latency_ms": latency_ms}}))
    backend = A2ACommBackend(host_options=HostOptions(authenticator=authenticate))
    handle = await backend.spawn_local_agent("Guarded-1", "127.0.0.1", 0, executor)
    print(handle.base_url, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await backend.close()


asyncio.run(main(float(sys.argv[1])))
