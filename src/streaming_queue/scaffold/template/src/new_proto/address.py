"""Where an agent is."""

from __future__ import annotations

from urllib.parse import urlsplit

from streaming_queue.errors import ConfigError

# TODO: the form of your addresses, and the scheme that tells them from those of other protocols.
SCHEME = "new-proto"


def address_at(authority: str) -> str:
    """The address of an agent that listens at `host:port`."""
    return f"{SCHEME}://{authority}"


def host_and_port(address: str) -> tuple[str, int]:
    """Where to connect to. Raises ConfigError when the address does not say it."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ConfigError(f"address {address!r} must be {SCHEME}://host:port")
    return host, port
