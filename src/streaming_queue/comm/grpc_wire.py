"""Shared parts of all protocols over gRPC: the library's engine, channels, ports, limits.

The library is an extra (`grpc`): this module imports it at first use.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from streaming_queue.comm import registry
from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES
from streaming_queue.comm.base import EndpointOptions, HostLimits, HostOptions
from streaming_queue.comm.host.listener import ListeningSocket, listen
from streaming_queue.errors import BackendNotInstalledError, ConfigError, ConnectError, ProtocolError

if TYPE_CHECKING:
    import grpc
    import grpc.aio

logger = logging.getLogger(__name__)

COMMON_LIMIT_BYTES = 4 * 1024 * 1024
"""The default size limit for messages of gRPC servers."""
MAX_METADATA_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 5.0
BIND_TRIES = 3

CHANNEL_OPTIONS: Mapping[str, int] = {
    "grpc.max_receive_message_length": MAX_EVENT_BYTES,
    "grpc.max_send_message_length": -1,
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,  # DNS does not configure our calls
    "grpc.enable_retries": 0,  # the scheduler retries by the error's class; the library's retries cost CPU
    "grpc.use_local_subchannel_pool": 1,  # each backend has its own connection and closes it
    # While a call is in flight, pings detect a peer that vanished. Our own questions and answers in between keep
    # servers from rejecting the pings as too many (gRPC proposal A8).
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.max_pings_without_data": 0,
    # The library's own backoff grows to two minutes, but we must find a returning worker within a second.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.dns_min_time_between_resolutions_ms": 1_000,
    "grpc.min_reconnect_backoff_ms": int(CONNECT_TIMEOUT_S * 1000),  # in fact the timeout of an attempt
}

_OWN_TEXTS = (
    "Stream removed (",
    "No status received",
    "Received http2 header with status",
    "Compression bit set but no encoding configured",
    "CLIENT: Received message larger than max",
)
"""The beginnings of the texts of the library's own statuses. Only the text shows whether the library or the peer
created a status: the metadata may be empty in both cases, and the channel's state may be late."""

_NOT_CONNECTED = ("failed to connect to all addresses", "connections to all backends failing", "DNS resolution failed")

_KEY = re.compile(r"[0-9a-z_.-]+")


@cache
def keep_engine() -> None:
    """Keep the library's network thread until the process ends.

    Call it before the first channel or server. Otherwise the library ends the thread when its last object is collected,
    and blocks the event loop meanwhile.
    """
    import grpc.aio

    grpc.aio.init_grpc_aio()


async def load_part(module: str, wanted: str) -> Any:
    """Import a module that needs the library, in a thread: the import is slow and reads files.

    Raises BackendNotInstalledError if the library is missing; the text names `wanted`.
    """
    try:
        return await asyncio.to_thread(import_module, module)
    except ImportError as error:
        install = await asyncio.to_thread(lambda: registry.find("grpc").install)
        raise BackendNotInstalledError(f"{wanted} needs grpcio: {install}") from error


def open_channel(authority: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel to `host:port`. It connects at first use; without credentials it has no TLS."""
    import grpc.aio

    keep_engine()
    name, options = f"dns:///{authority}", tuple(CHANNEL_OPTIONS.items())
    if credentials is None:
        return grpc.aio.insecure_channel(name, options=options)
    return grpc.aio.secure_channel(name, credentials, options=options)


def own_failure(error: grpc.aio.AioRpcError) -> type[ConnectError | ProtocolError] | None:
    """The error class for a status that the library created itself; None if the peer created it.

    ConnectError: the connection or the call was lost. ProtocolError: the peer's message is not gRPC, or too large.
    """
    import grpc

    details = error.details() or ""
    if error.trailing_metadata() or not details.startswith(_OWN_TEXTS):
        return None
    lost = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) or "RST_STREAM" in details
    return ConnectError if lost else ProtocolError


def is_unavailable(error: grpc.aio.AioRpcError) -> bool:
    """Whether the library sent nothing, since it had no connection."""
    return not error.trailing_metadata() and (error.details() or "").startswith(_NOT_CONNECTED)


def call_metadata(agent_id: str, options: EndpointOptions) -> tuple[tuple[str, str], ...]:
    """The metadata of every call to an agent. Raises ConfigError on a header that cannot be sent."""
    headers = {name.lower(): value for name, value in options.headers.items()}
    if options.credential is not None:
        headers["authorization"] = f"Bearer {options.credential}"
    for name, value in headers.items():
        if not _KEY.fullmatch(name) or name.startswith("grpc-") or name.endswith("-bin"):
            raise ConfigError(f"agent {agent_id!r}: header {name!r} cannot be sent as gRPC metadata")
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"agent {agent_id!r}: the value of header {name!r} cannot be sent")
    return tuple(headers.items())


def server_options(limits: HostLimits) -> tuple[tuple[str, int], ...]:
    """The options of a server, from a host's limits."""
    return (
        ("grpc.so_reuseport", 0),
        # Up to the common limit, the service itself refuses a message that is too large, with a clear text.
        ("grpc.max_receive_message_length", max(limits.body_bytes, COMMON_LIMIT_BYTES)),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", limits.connections),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.server_handshake_timeout_ms", int(limits.body_deadline_s * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_time_ms", 20_000),  # detects a caller that vanished, so that its work ends
        ("grpc.keepalive_timeout_ms", 10_000),
    )


async def bind(
    server: grpc.aio.Server,
    host: str,
    port: int,
    options: HostOptions,
    *,
    name: str,
    credentials: grpc.ServerCredentials | None = None,
) -> ListeningSocket:
    """Let the server listen, and return its address (the socket in it is closed). Raises like `listen`.

    The library accepts no socket of ours. So we find a free port with our socket and close it; then the library binds
    the port, unless another process was quicker.
    """
    for _ in range(BIND_TRIES):
        listener = await listen(host, port, options, name)
        address = listener.socket.getsockname()[0]
        listener.socket.close()
        target = f"[{address}]:{listener.port}" if ":" in address else f"{address}:{listener.port}"
        try:
            if credentials is None:
                server.add_insecure_port(target)
            else:
                server.add_secure_port(target, credentials)
        except RuntimeError:
            continue
        return listener
    reason = "another process took the port each time"
    raise ConnectError(f"{name}: cannot listen on {host}:{port}: {reason}", retryable=False)


async def stop(server: grpc.aio.Server, stop_s: float, name: str) -> None:
    """Accept no more calls, let calls in flight finish, and cancel the rest; within `stop_s`."""
    serving = asyncio.create_task(server.stop(0.8 * stop_s), name=f"stop serving:{name}")
    _, hung = await asyncio.wait({serving}, timeout=stop_s)
    if hung:
        logger.warning("%s: its server does not stop", name)
        serving.cancel()
