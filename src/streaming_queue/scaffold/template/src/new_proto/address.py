"""The addresses of agents."""

from __future__ import annotations

from urllib.parse import urlsplit

from streaming_queue.errors import ConfigError

# TODO: the form of your addresses, and their own scheme, which no other protocol uses.
SCHEME = "new-proto"


def address_at(authority: str) -> str:
    """The address of an agent that listens at `host:port`."""
    return f"{SCHEME}://{authority}"


def host_and_port(address: str) -> tuple[str, int]:
    """The host and port of an address. Raises ConfigError if it has none."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ConfigError(f"address {address!r} must be {SCHEME}://host:port")
    return host, port
