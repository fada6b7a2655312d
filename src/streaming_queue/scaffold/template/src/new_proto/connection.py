"""A TCP connection that carries lines. Each failure is one of our errors."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Self

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES
from streaming_queue.errors import ConnectError, ProtocolError

from new_proto.address import host_and_port

CONNECT_S = 5.0
STALL_S = 30.0


class Connection:
    """One end of it. `peer` names the other end in errors."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        self.peer = peer
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=0)  # `write` returns when all bytes are sent

    @classmethod
    async def open(cls, address: str, tls: ssl.SSLContext | None) -> Self:
        """A connection to the agent at `address`. Raises ConnectError within five seconds."""
        host, port = host_and_port(address)
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(host, port, limit=MAX_EVENT_BYTES, ssl=tls)
        except OSError as error:
            raise ConnectError(f"{address}: no connection: {error!r}") from error
        return cls(reader, writer, address)

    async def read(self) -> bytes:
        """The next line, with its end. Raises ConnectError if there is none, ProtocolError if it is too long."""
        try:
            line = await self._reader.readline()
        except ValueError as error:
            raise ProtocolError(f"{self.peer}: a line is too long: {error}", retryable=False) from error
        except OSError as error:
            raise ConnectError(f"{self.peer}: the connection broke: {error!r}") from error
        if not line.endswith(b"\n"):
            raise ConnectError(f"{self.peer}: the connection ended inside a line")
        return line

    async def write(self, lines: bytes) -> None:
        """Send lines. Raises ConnectError if the connection is broken, or if the peer reads nothing for 30 s."""
        try:
            async with asyncio.timeout(STALL_S):
                self._writer.write(lines)
                await self._writer.drain()
        except OSError as error:
            raise ConnectError(f"{self.peer}: the connection broke: {error!r}") from error

    async def refuse(self, lines: bytes, patience_s: float) -> None:
        """Send the last lines, then read the rest of the peer's message, so that the peer can read ours."""
        with suppress(ConnectError, OSError):
            async with asyncio.timeout(patience_s):
                await self.write(lines)
                while await self._reader.read(64 * 1024):
                    pass

    def abort(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()
