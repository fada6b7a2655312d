from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from unit.comm.agents import LIMITS
from unit.protocol_backend.nats.servers import NatsServer

from streaming_queue.comm.base import HostOptions
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats"), "max_payload: 2000000") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that the test may kill."""
    with NatsServer(tmp_path) as server:
        yield server


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., NatsCommBackend]]:
    """`make(url, **host_options)`: a backend, closed in the end."""
    backends: list[NatsCommBackend] = []

    def make(url: str | None = None, *, prefix: str | None = "t", options: Any = None, **host_options: Any) -> Any:
        host = HostOptions(**{"limits": LIMITS, **host_options})
        backends.append(NatsCommBackend(url=url, prefix=prefix, options=options, host_options=host))
        return backends[-1]

    yield make
    for backend in backends:
        await backend.close()


@pytest.fixture
async def plain() -> AsyncIterator[Callable[[str], Awaitable[Client]]]:
    """`await plain(url)`: a client of nats-py alone, closed in the end."""
    clients: list[Client] = []

    async def connect(url: str) -> Client:
        clients.append(await nats.connect(url, allow_reconnect=False))
        return clients[-1]

    yield connect
    for client in clients:
        await client.close()
