"""The one in-process host for every protocol that speaks ASGI."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Collection
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import uvicorn
import uvicorn.lifespan.off
import uvicorn.lifespan.on
from starlette.types import ASGIApp, Receive

from streaming_queue.comm.asgi_guard import Guard
from streaming_queue.comm.asgi_protocol import GuardedProtocol, cancelled_on_disconnect
from streaming_queue.comm.base import HostOptions
from streaming_queue.errors import ConfigError, ConnectError

__all__ = ["AsgiServer", "cancelled_on_disconnect", "read_body", "serve"]

logger = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_S = 75


class AsgiServer:
    """A running server. `base_url` is where this machine reaches it, `port` the one it listens on."""

    def __init__(self, server: uvicorn.Server, *, base_url: str, port: int, stop_s: float, name: str) -> None:
        self.base_url = base_url
        self.port = port
        self._server = server
        self._stop_s = stop_s
        self._name = name
        self._clock = asyncio.create_task(self._tick(), name=f"date:{name}")
        self._stopping: asyncio.Task[None] | None = None

    async def _tick(self) -> None:
        """Keep the Date header current (RFC 9110, 6.6.1)."""
        while True:
            await asyncio.sleep(1)
            await self._server.on_tick(0)

    async def stop(self) -> None:
        """Accept nothing more, let responses under way finish, and cut the rest off; idempotent.

        Returns after the `stop_s` of the host's limits at the latest, even if a handler hangs or a stream stays open.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name=f"stop:{self._name}")
        await asyncio.shield(self._stopping)

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
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
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
) -> AsgiServer:
    """Serve `app` in the running loop, behind the guard; returns when it is ready. Port 0 takes a free one.

    `name` stands in errors. `open_paths` need no credential. `lifespan` runs the application's start-up and shutdown.
    The authenticated principal is `scope["state"]["principal"]`.

    Raises:
        ConfigError: the address is not one of this machine, or is reached by others although nobody is authenticated.
        ConnectError: the port is in use.
    """
    listener = await _bind(host, port, name)
    try:
        address, port = listener.getsockname()[:2]
        ip = _ip(address)
        if options.authenticator is None and not options.allow_public and not ip.is_loopback:
            raise ConfigError(
                f"{name}: refusing to listen on {address}:{port}: other machines reach it and nobody is authenticated; "
                "listen on 127.0.0.1, give an authenticator, or set allow_public (network.allow_public)"
            )
        own = _url_host(("::1" if ip.version == 6 else "127.0.0.1") if ip.is_unspecified else host)
        hosts = ("localhost", "127.0.0.1", "[::1]", own, _url_host(address), *options.allowed_hosts)
        guard = Guard(app, options, hosts=hosts, any_address=ip.is_unspecified, open_paths=open_paths)
        server = await _start(guard, listener, options, name, lifespan=lifespan)
    except BaseException:
        listener.close()
        raise
    base_url = f"{'https' if options.tls else 'http'}://{own}:{port}"
    return AsgiServer(server, base_url=base_url, port=port, stop_s=options.limits.stop_s, name=name)


async def read_body(receive: Receive) -> bytes | None:
    """The whole body of a request; None when the caller left (or was refused) before its end."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece: bytes = message.get("body", b"")
        body += piece
        if not message.get("more_body", False):
            return body


async def _bind(host: str, port: int, name: str) -> socket.socket:
    where = f"{name}: cannot listen on {host}:{port}"
    if not 0 <= port <= 65535:
        raise ConfigError(f"{where}: a port is between 0 (any free one) and 65535")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{where}: the host is no address of this machine ({error})") from error
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            remedy = "stop what listens there, or choose another port (0 takes a free one)"
            raise ConnectError(f"{where}: the port is in use: {remedy}", retryable=False) from error
        raise ConfigError(f"{where}: {error}: choose another host or port") from error
    return listener


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


def _ip(address: str) -> IPv4Address | IPv6Address:
    return ip_address(address.partition("%")[0])


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
