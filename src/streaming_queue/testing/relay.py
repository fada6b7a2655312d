"""A TCP relay between a backend and an agent: it simulates network faults and keeps the end of the traffic."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from streaming_queue.comm import local_logins
from streaming_queue.comm.local_logins import Entry

LOOPBACK = "127.0.0.1"
KEPT_BYTES = 64 * 1024
SHOWN_BYTES = 400
_PIECE = 64 * 1024


class WireCapture:
    """The last bytes of one direction; `total` counts all bytes."""

    def __init__(self) -> None:
        self.total = 0
        self._kept = bytearray()

    def add(self, piece: bytes) -> None:
        """Add a piece."""
        self.total += len(piece)
        self._kept += piece
        del self._kept[:-KEPT_BYTES]

    def __contains__(self, text: bytes) -> bool:
        return text in self._kept

    def excerpt(self) -> str:
        """The last bytes, escaped."""
        if not self.total:
            return "nothing"
        shown = bytes(self._kept[-SHOWN_BYTES:])
        size = f"{self.total:,} bytes" if len(shown) == self.total else f"the last {len(shown)} of {self.total:,} bytes"
        return f"{size}: {shown!r}"


class Relay:
    """Listens on a free port of loopback and forwards to `host:port`; an asynchronous context manager.

    A fault applies to open and new connections, until `restore`. `sent` and `received` are the last bytes to and from
    the agent. A login of this user for the agent's server works at the relay, too.
    """

    def __init__(self, host: str, port: int) -> None:
        self.sent = WireCapture()
        self.received = WireCapture()
        self.port = 0
        self._agent = (host, port)
        self._listening: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._kept: Entry | None = None
        self._serving: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._delay_s = 0.0
        self._silent = False
        self._resetting = False
        self._answer: bytes | None = None
        self._left: int | None = None

    @classmethod
    def to(cls, address: str) -> Relay | None:
        """A relay to the agent at `address`; None if the address has no host and port."""
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError:
            return None
        return cls(host, port) if host and port else None

    def address(self, address: str) -> str:
        """`address` with this relay's host and port in place of its own."""
        parts = urlsplit(address)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}{LOOPBACK}:{self.port}").geturl()

    async def __aenter__(self) -> Self:
        await self._listen(_bound(0))
        self._kept = await asyncio.to_thread(local_logins.relay, *self._agent, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._kept is not None:
            await asyncio.to_thread(self._kept.remove)
        self._stop_listening()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _listen(self, bound: socket.socket) -> None:
        self.port = bound.getsockname()[1]
        self._listening = await asyncio.start_server(self._accept, sock=bound)

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    # --- faults ---

    async def refuse(self) -> None:
        """Reset open connections and refuse new ones, like a machine without a listener."""
        self._stop_listening()
        self._reset_all()
        await asyncio.sleep(0)
        self._reserved = _bound(self.port)  # a bound port without a listener refuses connections, and stays reserved

    def reset(self) -> None:
        """Reset open connections, and each new one after its first bytes from the backend."""
        self._resetting = True
        self._reset_all()

    def black_hole(self) -> None:
        """Accept everything and forward nothing, in both directions."""
        self._silent = True

    def delay(self, seconds: float) -> None:
        """Delay each piece from the agent."""
        self._delay_s = seconds

    def cut(self, after_bytes: int) -> None:
        """Forward `after_bytes` from the agent, then close; close each other connection at its next byte."""
        self._left = after_bytes

    def answer(self, data: bytes) -> None:
        """Answer `data` instead of the agent, after the first bytes from the backend, and close."""
        self._answer = data

    async def restore(self) -> None:
        """Forward everything again. A connection that lost bytes in a black hole is reset."""
        if self._silent:
            self._reset_all()
        self._delay_s, self._silent, self._resetting, self._answer, self._left = 0.0, False, False, None, None
        if self._reserved is not None:
            bound, self._reserved = self._reserved, None
            await self._listen(bound)

    # --- forwarding ---

    def _reset_all(self) -> None:
        for writers in self._serving.values():
            for writer in writers:
                _reset(writer)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        task = asyncio.create_task(self._serve(reader, writers), name="relay")
        self._serving[task] = writers
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        for writer in self._serving.pop(task):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]) -> None:
        (writer,) = writers
        try:
            if self._silent:
                while piece := await reader.read(_PIECE):
                    self.sent.add(piece)
                return
            agent_reader, agent_writer = await asyncio.open_connection(*self._agent)
            writers.append(agent_writer)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._to_agent(reader, agent_writer, writer), name="relay: to the agent")
                pumps.create_task(self._from_agent(agent_reader, writer), name="relay: from the agent")
        except* OSError:
            _reset(writer)  # pass the reset to the other end
        except* _Closed:
            pass

    async def _to_agent(
        self, reader: asyncio.StreamReader, agent: asyncio.StreamWriter, backend: asyncio.StreamWriter
    ) -> None:
        while piece := await reader.read(_PIECE):
            self.sent.add(piece)
            if self._resetting:
                raise ConnectionResetError
            if self._answer is not None:
                self.received.add(self._answer)
                backend.write(self._answer)
                raise _Closed
            if not self._silent:
                agent.write(piece)
                await agent.drain()
        if not self._silent:
            _end(agent)

    async def _from_agent(self, reader: asyncio.StreamReader, backend: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if self._silent:
                continue
            if self._left is not None:
                piece, self._left = piece[: self._left], max(0, self._left - len(piece))
            self.received.add(piece)
            backend.write(piece)
            await backend.drain()
            if self._left == 0:
                raise _Closed
        if not self._silent:
            _end(backend)


class _Closed(Exception):  # noqa: N818 (no error: the relay closes on purpose)
    """The relay closes the connection."""


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((LOOPBACK, port))
    return bound


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST, without lingering (socket(7), SO_LINGER)."""
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing():
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _end(writer: asyncio.StreamWriter) -> None:
    """End this direction; the other one may go on."""
    with suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()
