"""HTTP by hand, so that a test sees what is on the wire."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        return Answer(int(first.split()[1]), headers, b"")

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            answer = await self.head()
            if answer.headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readline(), 16):
                    answer.body += await self.reader.readexactly(size)
                    await self.reader.readline()
                await self.reader.readline()
            else:
                answer.body = await self.reader.readexactly(int(answer.headers.get("content-length", 0)))
            return answer

    async def closed(self) -> bool:
        """Whether the peer closed the connection; waits for it."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    def reset(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def connection(port: int, host: str = "127.0.0.1", **options: Any):
    reader, writer = await asyncio.open_connection(host, port, **options)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def post(path: str, body: bytes, *headers: str, host: str = "localhost") -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, *headers: str, host: str = "localhost") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers]).encode() + b"\r\n\r\n"


async def ask(port: int, request: bytes, host: str = "127.0.0.1") -> Answer:
    async with connection(port, host) as peer:
        await peer.write(request)
        return await peer.answer()
