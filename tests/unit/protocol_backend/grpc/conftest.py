"""A host of ours behind its port, channels to it, and certificates."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from unit.comm.agents import LIMITS
from unit.protocol_backend.grpc.peers import settled

from streaming_queue.comm.base import EndpointOptions, HostOptions
from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend


@pytest.fixture
async def spawn():
    """Host an executor; returns the port and a backend that knows it as `w`."""
    backends: list[GrpcCommBackend] = []

    async def spawn(
        executor: Any,
        options: EndpointOptions | None = None,
        host: str = "127.0.0.1",
        backend_options: dict[str, Any] | None = None,
        **host_options: Any,
    ) -> tuple[int, GrpcCommBackend]:
        backend = GrpcCommBackend(
            options={"w": options} if options else {},
            host_options=HostOptions(**{"limits": LIMITS, **host_options}),
            **(backend_options or {}),
        )
        backends.append(backend)
        handle = await backend.spawn_local_agent("w", host, 0, executor)
        spawn.agents.append(handle)
        await backend.register_endpoint("w", handle.base_url)
        return int(handle.base_url.rpartition(":")[2]), backend

    spawn.agents = []
    yield spawn
    for backend in backends:
        await backend.close()
    await settled()


@pytest.fixture
async def backend():
    backend = GrpcCommBackend(options={"w": EndpointOptions(credential="s3cret", headers={"X-Team": "blue"})})
    yield backend
    await backend.close()


@pytest.fixture
async def dial():
    """A channel to a port, made by the library alone."""
    channels: list[grpc.aio.Channel] = []

    def dial(port: int, *options: tuple[str, Any]) -> grpc.aio.Channel:
        local = ("grpc.use_local_subchannel_pool", 1)
        channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=(local, *options)))
        return channels[-1]

    yield dial
    for channel in channels:
        await channel.close()
    await settled()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A key and a certificate for localhost, PEM."""
    path = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path / "key"), "-out", str(path / "crt")]
    subprocess.run([*command.split(), *more], check=True, capture_output=True)
    return Path(path / "key").read_bytes(), Path(path / "crt").read_bytes()
