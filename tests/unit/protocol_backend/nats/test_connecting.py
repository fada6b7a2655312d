from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import FlushTimeoutError
from unit.protocol_backend.nats.servers import NatsServer

from streaming_queue.protocol_backend.nats.address import Login, Server
from streaming_queue.protocol_backend.nats.connecting import connect, dispose
from streaming_queue.testing import Relay


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
