"""The checks of both ends beyond the library's: signs of life, a peer that reads, a limit for pings."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

CLOSE_TIMEOUT_S = 1.0
MAX_REASON_BYTES = 123
"""The largest reason in a close frame (RFC 6455, 5.5)."""
TICK_S = 5.0
PING_AFTER_S = 10.0
DEAD_AFTER_S = 30.0
STALL_S = 30.0
MAX_PINGS = 100
"""The number of pings that a peer may send within a tick."""

library_log = logging.getLogger(f"{__name__}.library")
"""The library's log, without its debug lines: those show credentials and questions."""
library_log.setLevel(logging.INFO)


class WatchedConnection(Connection):
    """A connection that ends if its peer is dead, does not read, or sends too many pings; `given_up` is the reason.

    Every received byte is a sign of life: a pong may have to wait behind a long answer.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.given_up: str | None = None
        self._turn = asyncio.Lock()
        self._heard_at = self.loop.time()
        self._stuck_since: float | None = None
        self._pings = 0
        self._ending = False

    def data_received(self, data: bytes) -> None:
        """Note the sign of life. A peer has a second to end a closed connection."""
        self._heard_at = self.loop.time()
        super().data_received(data)
        if self.protocol.close_expected() and not self._ending:
            self._ending = True
            self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def process_event(self, event: Event) -> None:
        """Count pings; the library has answered this one."""
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self._pings += 1
            if self._pings > MAX_PINGS:
                self.give_up("too many pings")
        super().process_event(event)

    def give_up(self, reason: str) -> None:
        """Cut the connection off."""
        if self.given_up is None:
            self.given_up = reason
        self.transport.abort()

    def pause_writing(self) -> None:
        """Note the time from which the peer does not keep up."""
        super().pause_writing()
        self._stuck_since = self.loop.time()

    def resume_writing(self) -> None:
        """Note that the peer reads again."""
        super().resume_writing()
        self._stuck_since = None

    async def write(self, data: bytes) -> None:
        """Send a frame. If the peer does not keep up, wait for the earlier frames. Raises ConnectionClosed."""
        if self._stuck_since is None and self.given_up is None and self.state is State.OPEN:
            broadcast((self,), data, text=True)  # does the same as `send`, without waiting, at less cost
            return
        async with self._turn:
            await self.send(data, text=True)

    async def hang_up(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, within a second even if the peer does not read."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
        except TimeoutError:
            self.transport.abort()

    async def watch(self) -> None:
        """Check the connection until it ends; the owner runs this in a task. Raises ConnectionClosed."""
        while True:
            await asyncio.sleep(TICK_S)
            self._pings = 0
            now = self.loop.time()
            if now - self._heard_at > DEAD_AFTER_S:
                self.give_up(f"no sign of life for {DEAD_AFTER_S:g} s")
            elif self._stuck_since is not None:
                if now - self._stuck_since > STALL_S:
                    self.give_up(f"the peer did not read for {STALL_S:g} s")
            elif now - self._heard_at > PING_AFTER_S:
                await self.ping()


class ClientSide(WatchedConnection, ClientConnection):
    """Our end of a connection to an agent."""


class HostSide(WatchedConnection, ServerConnection):
    """Our end of a caller's connection. `connections` holds the host's open connections."""

    connections: ClassVar[set[HostSide]] = set()
    principal: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Add the connection to the host's."""
        super().connection_made(transport)
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the host's."""
        super().connection_lost(exc)
        self.connections.discard(self)
