"""The limits of a connection before its request is complete: uvicorn has none there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.host.admission import error_body
from streaming_queue.errors import ProtocolError, SendTimeoutError, StreamingQueueError

MAX_HEADER_BYTES = 64 * 1024

_CONNECTION = "connection"


class GuardedProtocol(HttpToolsProtocol):
    """One connection. It closes if a request's headers are too large (431) or too slow (408), or its peer stalls.

    A request's headers have `body_deadline_s` to arrive. A peer stalls if it leaves an answer's last 64 KiB unread for
    three times as long.
    """

    limits: ClassVar[HostLimits] = HostLimits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, _CONNECTION: self}, _loop)
        self.lost = False
        self.on_disconnect: Callable[[], object] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._header_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Await the first request."""
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(self.limits.body_deadline_s, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake the code that waits for the disconnect."""
        super().connection_lost(exc)
        self.lost = True
        for timer in (self._header_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        if self.on_disconnect is not None:
            self.on_disconnect()
        if self._gone is not None:
            self._gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Parse, and limit headers that are not complete."""
        super().data_received(data)
        if self.scope is None or (self.cycle is not None and self.cycle.scope is self.scope):
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None
            self._header_bytes = 0
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES:
            large = f"the request's headers are over the limit of {MAX_HEADER_BYTES} bytes"
            self._refuse(431, ProtocolError(large, retryable=False))
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self.limits.body_deadline_s, self._late)

    def _late(self) -> None:
        if self._header_bytes:
            limit_s = self.limits.body_deadline_s
            self._refuse(408, SendTimeoutError(f"the request's headers took longer than {limit_s:g} s"))
        else:
            self.transport.close()

    def _refuse(self, status: int, error: StreamingQueueError) -> None:
        if self.transport.is_closing():
            return
        body = error_body(error)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def pause_writing(self) -> None:
        """Give the slow peer some time."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(3 * self.limits.body_deadline_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the peer reads again."""
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def has_whole_body(self, scope: Scope) -> bool:
        """Whether the whole body of the request in `scope` has arrived, so that its time needs no bound."""
        return self.cycle.scope is scope and not self.cycle.more_body

    def gone(self) -> asyncio.Future[None]:
        """A future that is done when the connection is closed."""
        if self._gone is None:
            self._gone = self.loop.create_future()
            if self.lost:
                self._gone.set_result(None)
        return self._gone


def connection_of(scope: Scope) -> GuardedProtocol:
    """The connection of a request."""
    connection: GuardedProtocol = scope["state"][_CONNECTION]
    return connection


@contextmanager
def cancelled_on_disconnect(scope: Scope) -> Iterator[None]:
    """Cancel the current task if the peer disconnects within the block: no second task needs to watch for that.

    The guard catches the CancelledError that leaves the block.
    """
    connection = connection_of(scope)
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a request is served in a task")
    if connection.lost:
        task.cancel()
    connection.on_disconnect = task.cancel
    try:
        yield
    finally:
        connection.on_disconnect = None
