"""An Agora agent by hand, which does as a test needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

Respond = Callable[[dict[str, Any]], bytes]


def answer(body: Any, status: str = "200 OK", *headers: str) -> bytes:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def success(body: Any) -> bytes:
    return answer({"status": "success", "body": body})


def by_document(text: str) -> bytes:
    return success(json.dumps({"answer": text}))


NO_LISTING = answer(b"<h1>Not Found</h1>", "404 Not Found")


class Scripted:
    """A server by hand: `listing` for a GET, `options` for OPTIONS, and for each request what `respond` gives.

    An empty response breaks the connection.
    """

    def __init__(self, respond: Respond | bytes = b"", *, listing: Any = NO_LISTING, options: bytes = b"") -> None:
        self.respond = respond
        self.listing = listing if isinstance(listing, bytes) else answer(listing)
        self.options = options or answer(b"", "200 OK", "Allow: OPTIONS, POST")
        self.heads: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def hashes(self) -> list[str | None]:
        return [request["protocolHash"] for request in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.heads.append(head)
                if head.startswith(("GET", "OPTIONS")):
                    response = self.listing if head.startswith("GET") else self.options
                else:
                    length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
                    request = json.loads(await reader.readexactly(int(length.split(":")[1])))
                    self.requests.append(request)
                    response = self.respond(request) if callable(self.respond) else self.respond
                if not response:
                    writer.transport.abort()
                    return
                writer.write(response)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


async def send(backend: Any, peer: Scripted, text: str = "q", **metadata: Any) -> Any:
    await backend.register_endpoint("w", peer.url)
    async with asyncio.timeout(5):
        return await backend.send("c", "w", {"text": text, "metadata": metadata})
