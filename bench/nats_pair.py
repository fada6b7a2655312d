"""The nats backend against plain nats-py over one server, which does what the contract demands and nothing else.

python bench/nats_pair.py [requests] [in flight]
"""

from __future__ import annotations

import asyncio
import socket
import sysconfig
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from pair import QUESTION, Ask, Close, Side, main, ours
from pairs import raw_nats

from streaming_queue.protocol_backend.nats.comm import NatsCommBackend


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """A server that asks nobody for a login: `between` is an argument of the hosts, which all users can read."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(sysconfig.get_path("scripts")) / "nats-server"
    process = await asyncio.create_subprocess_exec(program, "-a", "127.0.0.1", "-p", str(port), stderr=PIPE)
    try:
        assert process.stderr is not None
        while b"Server is ready" not in await process.stderr.readline():
            continue
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.communicate()


async def host(between: str) -> tuple[str, Close]:
    connection = await nats.connect(between)
    await raw_nats.respond(connection)
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
