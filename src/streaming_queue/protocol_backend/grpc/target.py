"""Where an agent is, and what a channel to it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import grpc
import grpc.aio

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.grpc_wire import call_metadata, open_channel
from streaming_queue.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Target:
    """An agent's address, the metadata of every call to it, and the credentials of a channel with TLS."""

    address: str
    authority: str
    metadata: tuple[tuple[str, str], ...] = field(repr=False)
    credentials: grpc.ChannelCredentials | None

    @classmethod
    def of(
        cls, agent_id: str, address: str, options: EndpointOptions, credentials: grpc.ChannelCredentials | None
    ) -> Target:
        """The target at `address`; `credentials` are gRPC's own, None for its default trust.

        Raises ConfigError on an address, a header or a TLS option that cannot be used.
        """
        try:
            url = urlsplit(address)
            usable = url.scheme in ("grpc", "grpcs") and url.hostname and url.port and not url.username
        except ValueError:
            usable = False
        if not usable or url.path.strip("/") or url.query or url.fragment:
            raise ConfigError(
                f"agent {agent_id!r}: address {address.rpartition('@')[2]!r} must be grpc://host:port or "
                "grpcs://host:port; a credential belongs in the agent's options"
            )
        if options.tls is not None:
            raise ConfigError(
                f"agent {agent_id!r}: gRPC takes no ssl.SSLContext: give GrpcCommBackend its "
                "channel_credentials={...: grpc.ssl_channel_credentials(...)}"
            )
        credentials = None if url.scheme == "grpc" else credentials or grpc.ssl_channel_credentials()
        return cls(address.rstrip("/"), url.netloc, call_metadata(agent_id, options), credentials)

    def open_channel(self) -> grpc.aio.Channel:
        """A channel, which connects when it is first used."""
        return open_channel(self.authority, self.credentials)
