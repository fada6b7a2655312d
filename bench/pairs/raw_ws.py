"""The floor: the library's own client and server, one multiplexed connection a worker, the same JSON, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed


async def answer(connection: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            question = orjson.loads(await connection.recv())
            reply = {"id": question["id"], "text": f"[raw] {question['text']}"}
            await connection.send(orjson.dumps(reply), text=True)


def serve() -> None:
    """Serve on a free port; the address is printed once it accepts connections."""

    async def run() -> None:
        async with serve_websocket(answer, "127.0.0.1", 0, compression=None) as server:
            print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
            await server.serve_forever()

    asyncio.run(run())


async def ask_all(addresses: Sequence[str], questions: Sequence[str], in_flight: int) -> None:
    """Ask every question once, `in_flight` at a time, workers in turn."""
    todo = iter(enumerate(questions))
    waiting: dict[int, asyncio.Future[str]] = {}
    connections = [await connect(address, compression=None, proxy=None) for address in addresses]

    async def read(connection: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                reply = orjson.loads(await connection.recv())
                waiting.pop(reply["id"]).set_result(reply["text"])

    async def slot() -> None:
        for number, question in todo:
            reply = waiting[number] = asyncio.get_running_loop().create_future()
            body = orjson.dumps({"id": number, "text": question})
            await connections[number % len(connections)].send(body, text=True)
            assert (await reply).endswith(question)

    readers = [asyncio.create_task(read(connection)) for connection in connections]
    await asyncio.gather(*(slot() for _ in range(in_flight)))
    await asyncio.gather(*(connection.close() for connection in connections))
    await asyncio.gather(*readers)


if __name__ == "__main__":
    serve()
