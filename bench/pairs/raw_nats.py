"""nats-py at both ends, as it comes: its `request` and a responder that carry the same JSON, and nothing else."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import nats
import orjson
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from streaming_queue.comm.base import HostOptions
from streaming_queue.protocol_backend.nats.address import Login, parse_server
from streaming_queue.protocol_backend.nats.logins import find
from streaming_queue.protocol_backend.nats.server import start

SUBJECT = "stq.raw"


async def connect(url: str, login: Login | None = None) -> Client:
    """A connection with this login, by default one of those that this user has for the server."""
    if login is None:
        _, login = await find(parse_server(url)[0])
    return await nats.connect(url, user=login.user, password=login.password, inbox_prefix=login.inbox.encode())


async def respond(connection: Client) -> None:
    """Answer at `SUBJECT`; returns when the server knows."""

    async def answer(message: Msg) -> None:
        text = f"[raw] {orjson.loads(message.data)['text']}"
        await connection.publish(message.reply, orjson.dumps({"type": "agent_text_message", "data": text}))

    await connection.subscribe(SUBJECT, queue="stq", cb=answer)
    for _ in range(2):  # nats-py's PING overtakes what it has still to write
        await connection.flush()


async def ask(connection: Client, question: str, subject: str = SUBJECT) -> str:
    answer = await connection.request(subject, orjson.dumps({"text": question}), timeout=60)
    text: str = orjson.loads(answer.data)["data"]
    return text


async def serve() -> None:
    """Serve at a server of its own, as a worker without a configured one does, until SIGTERM; prints the address."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await start("127.0.0.1", 0, HostOptions(), "the raw pair")
    await respond(await connect(str(server.address), server.logins.host))
    print(server.address, flush=True)
    await ended.wait()
    await server.stop()


async def ask_all(addresses: Sequence[str], questions: Sequence[str], in_flight: int) -> None:
    """Ask every question once, `in_flight` at a time, workers in turn."""
    todo = iter(enumerate(questions))
    connections = [await connect(address) for address in addresses]

    async def slot() -> None:
        for number, question in todo:
            assert (await ask(connections[number % len(connections)], question)).endswith(question)

    await asyncio.gather(*(slot() for _ in range(in_flight)))
    for connection in connections:
        await connection.close()


if __name__ == "__main__":
    uvloop.run(serve())
