"""The listening socket of a host, and the rule for its address, for every protocol that has a port."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from streaming_queue.comm.base import HostOptions
from streaming_queue.errors import ConfigError, ConnectError

BACKLOG = 2048
REMEDY = (
    "set network.token (STQ_NETWORK__TOKEN; in Python HostOptions.authenticator), so that callers show a credential"
)
"""The first remedy for an address that other machines reach."""


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A socket that listens.

    `authority` is its address for this machine, as in a URL: `127.0.0.1:10001`. `hosts` are its own names in a Host
    header; with `any_address` every IP address is one of them.
    """

    socket: socket.socket
    authority: str
    port: int
    hosts: tuple[str, ...]
    any_address: bool


async def listen(host: str, port: int, options: HostOptions, name: str, *, remedy: str = REMEDY) -> ListeningSocket:
    """Listen on `host` and `port` (0 takes a free one). The caller closes the socket.

    Errors show `name`, and `remedy`: how to authenticate callers.

    Raises:
        ConfigError: the address is not one of this machine, or other machines reach it without a credential.
        ConnectError: the port is in use.
    """
    bound = await _bind(host, port, name)
    address, port = bound.getsockname()[:2]
    ip = ip_address(address.partition("%")[0])
    if not (options.guarded or options.allow_public or ip.is_loopback):
        bound.close()
        raise ConfigError(
            f"{name}: refusing to listen on {address}:{port}: other machines reach it without authentication; "
            f"{remedy}; or listen on 127.0.0.1; network.allow_public=true accepts every caller"
        )
    own = _url_host(("::1" if ip.version == 6 else "127.0.0.1") if ip.is_unspecified else host)
    hosts = ("localhost", "127.0.0.1", "[::1]", own, _url_host(address), *options.allowed_hosts)
    return ListeningSocket(bound, f"{own}:{port}", port, hosts, ip.is_unspecified)


async def _bind(host: str, port: int, name: str) -> socket.socket:
    where = f"{name}: cannot listen on {host}:{port}"
    if not 0 <= port <= 65535:
        raise ConfigError(f"{where}: a port is between 0 (any free one) and 65535")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{where}: the host is not an address of this machine ({error})") from error
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            remedy = "stop the process that listens there, or choose another port (0 takes a free one)"
            raise ConnectError(f"{where}: the port is in use: {remedy}", retryable=False) from error
        raise ConfigError(f"{where}: {error}: choose another host or port") from error
    return bound


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
