"""The check of an address from a message: it must name a socket.

The configuration of a run may name a program, for example `stdio:python server.py`. A message must not: its sender
would run that program here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from streaming_queue.errors import ConfigError

SOCKET_SCHEMES = frozenset({"http", "https", "ws", "wss", "grpc", "grpcs", "nats", "tls", "tcp"})
"""Schemes that name a host and a port, in every backend."""

_PLAIN = re.compile(r"([a-z][a-z0-9+.-]*)://[!-~]+", re.ASCII)
"""A scheme and an authority that all parsers read alike: no white space, control character or capital in the scheme."""


def check_wire_address(address: str, own_schemes: Collection[str] = ()) -> None:
    """Raise ConfigError unless `address` names a socket: a known scheme, or one of `own_schemes`, and a host.

    `own_schemes` are the schemes of the address's backend (`BaseCommBackend.socket_schemes`).
    """
    plain = _PLAIN.fullmatch(address)
    try:
        url = urlsplit(address)
        named = bool(url.hostname) and url.port != 0
    except ValueError:
        named = False
    if plain is None or not named or (plain[1] not in SOCKET_SCHEMES and plain[1] not in own_schemes):
        shown = address.rpartition("@")[2][:200]
        raise ConfigError(
            f"address {shown!a} came over the network and names no socket like http://host:port; name such a worker in "
            "the configuration that starts the run (workers, or qa.worker.endpoints)"
        )
