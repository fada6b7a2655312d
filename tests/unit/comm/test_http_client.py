from __future__ import annotations

import asyncio

import aiohttp
import pytest

from streaming_queue.comm.http_client import open_session

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

HEADS = {
    "nothing": b"",
    "no length": b"HTTP/1.1 200 OK\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_closing_the_session_ends_the_wait_of_whoever_reads(head: bytes):
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        asked.set()
        await reader.read()
        writer.close()

    async def read() -> None:
        async with session.get(f"http://127.0.0.1:{port}") as response:
            while await response.content.readany():
                pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    session = open_session()
    reading = asyncio.create_task(read())
    await asked.wait()
    await asyncio.sleep(0.05)
    await session.close()
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(reading, 1)
    server.close()
