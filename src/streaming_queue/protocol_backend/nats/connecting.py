"""Creates and closes the library's client: one attempt, typed errors, no leftover tasks or sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from nats import errors
from nats.aio.client import Client, RawCredentials
from nats.aio.subscription import Subscription

from streaming_queue.errors import (
    AuthError,
    BackendNotInstalledError,
    CommError,
    ConfigError,
    ProtocolError,
    StreamingQueueError,
    UnavailableError,
    os_reason,
)
from streaming_queue.extras import install_command
from streaming_queue.protocol_backend.nats.address import Login, Server

CONNECT_TIMEOUT_S = 5
CLOSE_TIMEOUT_S = 1.0
PING_S = 3
"""The pause between two pings to the server; two without an answer end the connection."""

_REFUSALS = ("authorization violation", "authentication expired", "authentication revoked", "authentication timeout")
"""The texts of an -ERR about credentials, from the client protocol."""
_UNLIMITED = 2**62


class _Client(Client):
    """The library's client, with three additions."""

    tls_only = False

    def _connect_command(self) -> bytes:
        """Refuse a server without TLS: the library's method would send the credentials unencrypted."""
        if self.tls_only and not self._server_info.get("tls_required"):
            raise errors.SecureConnWantedError
        return super()._connect_command()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Write the pending bytes first: otherwise the library's PING overtakes them, and `flush` has no meaning."""
        if self._transport is not None and self._pending:
            self._transport.writelines(self._pending)
            self._pending, self._pending_data_size = [], 0
        await super()._send_ping(future)

    async def _process_pong(self) -> None:
        """Accept the answer to a cancelled `flush`: the library would treat it as an error and disconnect."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()


async def connect(
    server: Server,
    login: Login,
    tls: ssl.SSLContext | None,
    *,
    complained: Callable[[Client, Exception], Awaitable[None]],
    disconnected: Callable[[Client], Awaitable[None]],
) -> Client:
    """A connected client. It never reconnects: after a broken connection the caller creates a new client.

    Raises:
        ConnectError: the server cannot be reached, or its certificate is not trusted.
        AuthError: the server refuses our credentials.
        ProtocolError: the address answers, but is not a NATS server.
        ConfigError: the file of credentials is not valid.
    """
    credentials = None if login.credentials is None else await asyncio.to_thread(_read, login.credentials)
    if tls is None and server.scheme == "tls":
        tls = await asyncio.to_thread(ssl.create_default_context)
    client = _Client()
    client.tls_only = server.scheme == "tls"
    connecting = True

    async def on_error(error: Exception) -> None:
        if connecting and not client.is_closed:
            raise _translated(error, server, login)  # the first failure ends the attempt; the library would try again
        await complained(client, error)

    async def on_disconnect() -> None:
        await disconnected(client)

    def never(*_: Any) -> tuple[None, float]:
        return None, 3600.0

    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await client.connect(
                f"nats://{server.authority}",
                error_cb=on_error,
                disconnected_cb=on_disconnect,
                reconnect_to_server_handler=never,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT_S,
                ping_interval=PING_S,
                pending_size=_UNLIMITED,  # at a limit, the library waits and loses a cancellation
                user=login.user,
                password=login.password,
                token=login.token,
                user_credentials=credentials,
                tls=tls,
                name="streaming-queue",
            )
            if not client.is_connected:  # the library takes any text but -ERR for the expected PONG
                raise errors.ProtocolError
    except BaseException as error:
        await dispose(client, ())
        if isinstance(error, StreamingQueueError) or not isinstance(error, Exception):
            raise
        raise _translated(error, server, login) from error
    connecting = False
    return client


async def dispose(client: Client, subscriptions: Iterable[Subscription]) -> None:
    """Close a client in any state; bounded."""
    closing = asyncio.create_task(client.close(), name="nats:close")
    _, hangs = await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
    if hangs:
        closing.cancel()
    elif not closing.cancelled():
        closing.exception()  # it fails if the connection broke with unsent bytes
    # In both cases, the library leaves the subscriptions' tasks and the socket open.
    for subscription in subscriptions:
        subscription._stop_processing()  # noqa: SLF001
    if (writer := getattr(client._transport, "_io_writer", None)) is not None:  # noqa: SLF001
        writer.transport.abort()


def _translated(error: Exception, server: Server, login: Login) -> CommError:
    """The library's error from connecting, as one of ours, most specific first."""
    reason = str(error) or type(error).__name__
    if isinstance(error, errors.Error) and any(refusal in reason.lower() for refusal in _REFUSALS):
        failure = f"{server}: the server refuses our credentials; check nats.url and nats.credentials"
        return AuthError(failure if login != Login() else f"{failure}: no login is set (docs/protocols/nats.md)")
    if isinstance(error, ssl.SSLError | errors.SecureConnWantedError):
        failure = f"the TLS certificate is not trusted: {reason}; check the certificate and the agent's tls option"
        return UnavailableError(f"{server}: {failure}", retryable=False)
    if isinstance(error, TimeoutError):
        return UnavailableError(f"{server}: no connection within {CONNECT_TIMEOUT_S} s")
    if isinstance(error, OSError):
        return UnavailableError(f"{server}: cannot connect: {os_reason(error)}")
    return ProtocolError(f"{server}: this is not a NATS server: {reason}")


def _read(path: str) -> RawCredentials:
    """The credentials in a file; the library itself would read the file in the event loop."""
    try:
        import nkeys
    except ImportError as error:
        raise BackendNotInstalledError(f"nats.credentials needs nkeys: {install_command('nats')}") from error
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"nats.credentials: {path} cannot be read: {error}") from error
    jwt, seed = _block(text, "NATS USER JWT"), _block(text, "USER NKEY SEED")
    try:
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except Exception:  # the library's errors have no common class
        seed = ""
    if not (jwt and seed):
        raise ConfigError(f"nats.credentials: {path} has no valid JWT and seed")
    return RawCredentials(text)


def _block(text: str, name: str) -> str:
    """The line after `-----BEGIN name-----`; may be empty."""
    lines = text.partition(f"BEGIN {name}")[2].splitlines()
    return lines[1].strip() if len(lines) > 1 else ""
