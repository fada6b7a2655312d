"""Where an agent is, how a channel to it is made, and what every call to it carries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import grpc
import grpc.aio

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.grpc.engine import keep_engine

MAX_ANSWER_BYTES = 16 * 1024 * 1024
CONNECT_TIMEOUT_S = 5.0

CHANNEL_OPTIONS: Mapping[str, int] = {
    "grpc.max_receive_message_length": MAX_ANSWER_BYTES,
    "grpc.max_send_message_length": -1,
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,  # nobody's DNS says how we call
    "grpc.use_local_subchannel_pool": 1,  # a connection of its own, which ends with the backend
    # A vanished peer is told from one that works by pings, while a call is under way. Our own questions and answers
    # in between keep servers content that would call this too many (gRPC proposal A8).
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.max_pings_without_data": 0,
    # The library's own pauses grow to two minutes, but a worker that is back should be found within a second.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.dns_min_time_between_resolutions_ms": 1_000,
    "grpc.min_reconnect_backoff_ms": int(CONNECT_TIMEOUT_S * 1000),  # despite its name, how long an attempt may take
}

_KEY = re.compile(r"[0-9a-z_.-]+")


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
        return cls(address.rstrip("/"), url.netloc, _metadata(agent_id, options), credentials)

    def open_channel(self) -> grpc.aio.Channel:
        """A channel, which connects when it is first used."""
        keep_engine()
        name, options = f"dns:///{self.authority}", tuple(CHANNEL_OPTIONS.items())
        if self.credentials is None:
            return grpc.aio.insecure_channel(name, options=options)
        return grpc.aio.secure_channel(name, self.credentials, options=options)


def _metadata(agent_id: str, options: EndpointOptions) -> tuple[tuple[str, str], ...]:
    headers = {name.lower(): value for name, value in options.headers.items()}
    if options.credential is not None:
        headers["authorization"] = f"Bearer {options.credential}"
    for name, value in headers.items():
        if not _KEY.fullmatch(name) or name.startswith("grpc-") or name.endswith("-bin"):
            raise ConfigError(f"agent {agent_id!r}: header {name!r} cannot be sent as gRPC metadata")
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"agent {agent_id!r}: the value of header {name!r} cannot be sent")
    return tuple(headers.items())
