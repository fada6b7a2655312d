from __future__ import annotations

from typing import Any

import pytest
from unit.comm.agents import LIMITS

from streaming_queue.comm.base import EndpointOptions, HostOptions
from streaming_queue.protocol_backend.agora.comm import AgoraCommBackend


@pytest.fixture
async def backend():
    backend = AgoraCommBackend(options={"w": EndpointOptions(credential="s3cret", headers={"X-Team": "blue"})})
    yield backend
    await backend.close()


@pytest.fixture
async def spawn():
    """Host an executor; returns the port and a backend that knows it as `w`."""
    backends: list[AgoraCommBackend] = []

    async def spawn(
        executor: Any, options: EndpointOptions | None = None, sources: tuple[str, ...] = (), **host_options: Any
    ) -> tuple[int, AgoraCommBackend]:
        backend = AgoraCommBackend(
            sources=sources,
            options={"w": options} if options else {},
            host_options=HostOptions(**{"limits": LIMITS, **host_options}),
        )
        backends.append(backend)
        handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, executor)
        await backend.register_endpoint("w", handle.base_url)
        return int(handle.base_url.rpartition(":")[2]), backend

    yield spawn
    for backend in backends:
        await backend.close()
