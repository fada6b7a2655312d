"""Where an agent is, and what every request to it carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.http.codec import JSON


@dataclass(frozen=True, slots=True)
class Target:
    """An agent's URLs, and what every request to it carries."""

    address: str
    message: URL
    cancel: URL
    health: URL
    headers: CIMultiDict[str]
    ssl: Any

    @classmethod
    def of(cls, agent_id: str, address: str, options: EndpointOptions) -> Target:
        """The target at `address`. Raises ConfigError on an address or a header that cannot be used."""
        try:
            base = URL(address.rstrip("/"))
            usable = base.scheme in ("http", "https") and base.host and base.user is None
        except ValueError:
            usable = False
        if not usable or base.raw_query_string or base.raw_fragment:
            raise ConfigError(
                f"agent {agent_id!r}: address {address.rpartition('@')[2]!r} must be http://host:port or "
                "https://host:port with at most a path; a credential belongs in the agent's options"
            )
        headers = CIMultiDict({"Accept": JSON, "Accept-Encoding": "identity", "Content-Type": JSON, **options.headers})
        if options.credential is not None:
            headers["Authorization"] = f"Bearer {options.credential}"
        for name, value in headers.items():
            if not (name.isascii() and name.isprintable() and value.isprintable()):
                raise ConfigError(f"agent {agent_id!r}: the value of header {name!r} cannot be sent")
        return cls(address, base / "message", base / "cancel", base / "health", headers, options.tls or True)
