"""Check the connection to an address, without a protocol: name, route, port."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from streaming_queue.doctor.examination import STEP_S, in_thread
from streaming_queue.errors import ConfigError, ConnectError

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "nats": 4222, "tls": 4222}


async def connect(address: str) -> tuple[str, float] | None:
    """Resolve the host of a URL and connect to it; None if the URL names no host and port.

    Returns the IP address and the milliseconds that the connection took.

    Each of the two steps has `STEP_S`. A daemon thread resolves the name: a thread of asyncio would delay the end of
    the process until the name server answers.

    Raises:
        ConfigError: the URL is invalid.
        ConnectError: the name is unknown, no process listens, or the connection times out.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:  # its text may quote a password
        raise ConfigError("the address is invalid: its host or port cannot be read") from None
    if not host or port is None:
        return None
    found = await _resolve(host, port)
    began = time.monotonic()
    try:
        async with asyncio.timeout(STEP_S):
            sockaddr = await _connect(found)
    except TimeoutError:
        raise ConnectError(
            f"no connection to {host}:{port} within {STEP_S:g} s: a firewall drops it, or the machine is off"
        ) from None
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            raise ConnectError(f"nothing listens at {host}:{port}") from None
        raise ConnectError(f"{host}:{port} cannot be connected to: {error.strerror or error}") from None
    return sockaddr[0], 1000 * (time.monotonic() - began)


_Found = list[tuple[socket.AddressFamily, Any]]
"""Address families, each with an address in its form."""


async def _resolve(host: str, port: int) -> _Found:
    try:
        async with asyncio.timeout(STEP_S):
            found = await in_thread(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
    except TimeoutError:
        raise ConnectError(f"the name {host} was not resolved within {STEP_S:g} s: check the name server") from None
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConnectError(f"the name {host} is unknown: {reason}; check its spelling") from None
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]


async def _connect(found: _Found) -> Any:
    """Connect to the first address that accepts, in their order. Raises the error of the last one."""
    failure: OSError | None = None
    for family, sockaddr in found:
        with closing(socket.socket(family, socket.SOCK_STREAM)) as connection:
            connection.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(connection, sockaddr)
            except OSError as error:
                failure = error
            else:
                return sockaddr
    raise failure or OSError("no address was found")
