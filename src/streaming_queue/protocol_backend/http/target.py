"""Where an agent is, and what every request to it carries."""

from __future__ import annotations

from dataclasses import dataclass
from ssl import SSLContext

from multidict import CIMultiDict
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import agent_headers, agent_url
from streaming_queue.protocol_backend.http.codec import JSON


@dataclass(frozen=True, slots=True)
class Target:
    """An agent's URLs, and what every request to it carries."""

    address: str
    message: URL
    cancel: URL
    health: URL
    headers: CIMultiDict[str]
    tls: SSLContext | None

    @classmethod
    def of(cls, agent_id: str, address: str, options: EndpointOptions) -> Target:
        """The target at `address`. Raises ConfigError on an address or a header that cannot be used."""
        base = agent_url(agent_id, address)
        headers = agent_headers(agent_id, options, {"Accept": JSON, "Content-Type": JSON})
        return cls(address, base / "message", base / "cancel", base / "health", headers, options.tls)
