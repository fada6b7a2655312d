"""The in-process server for every protocol on ASGI."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection
from contextlib import suppress

import uvicorn
import uvicorn.lifespan.off
import uvicorn.lifespan.on
from starlette.types import ASGIApp, Receive

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.host.admission import Admission, error_body
from streaming_queue.comm.host.agent import StopsOnce
from streaming_queue.comm.host.asgi_guard import ErrorBody, Guard
from streaming_queue.comm.host.asgi_protocol import GuardedProtocol, cancelled_on_disconnect
from streaming_queue.comm.host.listener import BACKLOG, REMEDY, listen
from streaming_queue.errors import ConfigError
from streaming_queue.telemetry.background import log_failure

__all__ = ["AsgiServer", "cancelled_on_disconnect", "read_body", "serve"]

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75


class AsgiServer(StopsOnce):
    """A running server. `base_url` is its address for this machine, `port` its port.

    `stop` accepts no more requests, lets responses in flight finish, and cuts the rest off. It returns after `stop_s`
    at most, even if a handler hangs or a stream stays open.
    """

    def __init__(self, server: uvicorn.Server, *, base_url: str, port: int, stop_s: float, name: str) -> None:
        self.base_url = base_url
        self.port = port
        self._server = server
        self._stop_s = stop_s
        self._name = name
        self._clock = asyncio.create_task(self._tick(), name=f"date:{name}")
        self._clock.add_done_callback(log_failure)

    def __str__(self) -> str:
        return self._name

    async def _tick(self) -> None:
        """Keep the Date header current (RFC 9110, 6.6.1)."""
        while True:
            await asyncio.sleep(1)
            await self._server.on_tick(0)

    async def _stop(self) -> None:
        state = self._server.server_state
        connections: list[GuardedProtocol] = list(state.connections)  # type: ignore[arg-type]
        for listener in self._server.servers:
            listener.close()
        for connection in connections:
            connection.shutdown()
        if connections:
            await asyncio.wait([connection.gone() for connection in connections], timeout=0.8 * self._stop_s)
        for straggler in list(state.connections):
            straggler.transport.abort()
        await asyncio.sleep(0)
        if tasks := list(state.tasks):
            for task in tasks:
                task.cancel()
            _, hung = await asyncio.wait(tasks, timeout=0.1 * self._stop_s)
            if hung:
                logger.warning("%s: %d handlers do not end when they are cancelled", self._name, len(hung))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1 * self._stop_s):
                await self._server.lifespan.shutdown()
        self._clock.cancel()
        await asyncio.wait({self._clock})


async def serve(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    options: HostOptions,
    name: str,
    open_paths: Collection[str] = ("/health",),
    lifespan: bool = False,
    error_body: ErrorBody = error_body,
    remedy: str = REMEDY,
) -> AsgiServer:
    """Serve `app` in the running loop, behind the guard; returns when it is ready. Port 0 takes a free one.

    Errors show `name` and `remedy`, as with `listen`. `open_paths` need no credential. `lifespan` runs the
    application's start-up and shutdown. `error_body` writes the guard's refusals in the protocol's form.
    The authenticated principal is `scope["state"]["principal"]`.

    Raises:
        ConfigError: the address is not one of this machine, or other machines reach it without a credential.
        ConnectError: the port is in use.
    """
    listener = await listen(host, port, options, name, remedy=remedy)
    try:
        admission = Admission(options, hosts=listener.hosts, any_address=listener.any_address)
        guard = Guard(app, options.limits, admission, open_paths=open_paths, error_body=error_body)
        server = await _start(guard, listener.socket, options, name, lifespan=lifespan)
    except BaseException:
        listener.socket.close()
        raise
    base_url = f"{'https' if options.tls else 'http'}://{listener.authority}"
    return AsgiServer(server, base_url=base_url, port=listener.port, stop_s=options.limits.stop_s, name=name)


async def read_body(receive: Receive) -> bytes | None:
    """The whole body of a request; None if the caller left (or was refused) before its end."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece: bytes = message.get("body", b"")
        body += piece
        if not message.get("more_body", False):
            return body


async def _start(
    guard: Guard, listener: socket.socket, options: HostOptions, name: str, *, lifespan: bool
) -> uvicorn.Server:
    class Protocol(GuardedProtocol):
        limits = options.limits

    config = uvicorn.Config(
        guard,
        http=Protocol,
        ws="none",
        lifespan="on" if lifespan else "off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    config.load()
    config.ssl = options.tls
    server = uvicorn.Server(config)
    guard.connections = server.server_state.connections
    server.lifespan = config.lifespan_class(config)
    await server.on_tick(0)
    try:
        await server.startup(sockets=[listener])
    except SystemExit:
        raise ConfigError(f"{name}: the application failed to start; its log says why") from None
    return server
