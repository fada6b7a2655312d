"""A TCP relay between client and host, which cuts, refuses or swallows what goes through it when a test says so."""

from __future__ import annotations

import asyncio
from typing import Self


class Relay:
    """Listens from the beginning on, so that its `url` is known before the host's; `to(port)` says where it leads."""

    def __init__(self) -> None:
        self.url = ""
        self.accepted = 0
        self._port = 0
        self._refusing = False
        self._swallows_all = False
        self._swallowing: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def to(self, url: str) -> Self:
        self._port = int(url.rpartition(":")[2])
        return self

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def refuse(self, refusing: bool) -> None:
        """Reset every connection there is, and whatever comes, until told otherwise."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def swallow(self, *, new_ones_too: bool = False) -> None:
        """Let nothing through the connections there are any more: neither side notices."""
        self._swallowing = set(self._writers)
        self._swallows_all = new_ones_too

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self._refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        both = {writer, far_writer}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as pipes:
                pipes.create_task(self._pipe(reader, far_writer))
                pipes.create_task(self._pipe(far_reader, writer))
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not self._swallows_all and writer not in self._swallowing:
                    writer.write(data)
                    await writer.drain()
            writer.close()
        except ConnectionError:
            writer.transport.abort()
