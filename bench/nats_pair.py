"""The nats backend against plain nats-py over one server, which does what the contract demands and nothing else.

python bench/nats_pair.py [requests] [in flight]
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
from pair import QUESTION, Ask, Close, Side, main, ours
from pairs import raw_nats

from streaming_queue.comm.base import HostOptions
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend
from streaming_queue.protocol_backend.nats.server import start


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    running = await start("127.0.0.1", 0, HostOptions(), "the bench")
    try:
        yield str(running.address)
    finally:
        await running.stop()


async def host(between: str) -> tuple[str, Close]:
    connection = await raw_nats.respond(between)
    return f"{between}/{raw_nats.SUBJECT}", connection.close


async def client(address: str) -> tuple[Ask, Close]:
    url, _, subject = address.rpartition("/")
    connection = await nats.connect(url)

    async def ask(number: int) -> Any:
        del number
        return await raw_nats.ask(connection, QUESTION, subject)

    return ask, connection.close


if __name__ == "__main__":
    sides = {"ours": ours(NatsCommBackend, lambda url: NatsCommBackend(url=url)), "raw": Side(host, client)}
    main(sides, crossed=True, rounds=3, between=server)
