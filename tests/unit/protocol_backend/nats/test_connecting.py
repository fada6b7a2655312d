from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import FlushTimeoutError
from unit.protocol_backend.nats.servers import NatsServer

from streaming_queue.errors import ProtocolError
from streaming_queue.protocol_backend.nats.address import Login, Server
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend
from streaming_queue.protocol_backend.nats.connecting import connect, dispose
from streaming_queue.testing import Relay
from streaming_queue.testing.executors import soon


async def test_a_server_that_answers_late_costs_no_connection(shared_server: NatsServer) -> None:
    complaints: list[Exception] = []

    async def complained(_: Client, error: Exception) -> None:
        complaints.append(error)

    async def disconnected(_: Client) -> None:
        complaints.append(ConnectionError())

    relay: Any = Relay.to(shared_server.url)
    async with relay:
        server = Server("nats", "127.0.0.1", relay.port)
        client = await connect(server, Login(), None, complained=complained, disconnected=disconnected)
        relay.delay(0.5)
        with pytest.raises(FlushTimeoutError):
            await client.flush(0.1)  # type: ignore[arg-type]
        await client.flush(5)
        assert client.is_connected
        assert complaints == []
        await dispose(client, ())


async def test_all_who_wait_for_a_server_that_is_none_learn_it_by_one_connection() -> None:
    connections = 0
    all_wait = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await all_wait.wait()
        writer.write(b"220 hello\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    backend = NatsCommBackend(url=f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await backend.register_endpoint("w", f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}/t.w")
    asking = [asyncio.create_task(backend.send("c", "w", {"text": "q"})) for _ in range(20)]
    await soon(lambda: connections > 0)
    all_wait.set()
    for error in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(error, ProtocolError)
    assert connections == 1
    await backend.close()
    server.close()
