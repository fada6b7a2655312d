"""The ws backend against the bare library, which multiplexes too: one connection, ids, a future for each request.

python bench/ws_pair.py [requests] [in flight]
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
from pair import QUESTION, Ask, Close, Side, main, ours
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from streaming_queue.protocol_backend.ws.comm import WsCommBackend


async def echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            request = orjson.loads(await connection.recv())
            await connection.send(orjson.dumps({"id": request["id"], "text": request["text"]}), text=True)


async def host(between: str) -> tuple[str, Close]:
    del between
    server = await serve(echo, "127.0.0.1", 0, compression=None)

    async def close() -> None:
        server.close()
        await server.wait_closed()

    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", close


async def client(address: str) -> tuple[Ask, Close]:
    connection = await connect(address, compression=None, proxy=None)
    waiting: dict[int, asyncio.Future[Any]] = {}

    async def read() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                answer = orjson.loads(await connection.recv())
                waiting.pop(answer["id"]).set_result(answer)

    reader = asyncio.create_task(read())

    async def ask(number: int) -> Any:
        answer = waiting[number] = asyncio.get_running_loop().create_future()
        await connection.send(orjson.dumps({"id": number, "text": QUESTION}), text=True)
        return await answer

    async def close() -> None:
        await connection.close()
        await reader

    return ask, close


if __name__ == "__main__":
    main({"bare": Side(host, client), "ours": ours(WsCommBackend)}, crossed=False, in_flight=32)
