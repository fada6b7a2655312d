"""How this project speaks gRPC, whichever protocol is spoken over it: the library's engine, channels, ports, limits.

The library is an extra (`grpc`): nothing here imports it before it is used.
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
"""The size of a message that gRPC's servers take unless told otherwise."""
MAX_METADATA_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 5.0
BIND_TRIES = 3

CHANNEL_OPTIONS: Mapping[str, int] = {
    "grpc.max_receive_message_length": MAX_EVENT_BYTES,
    "grpc.max_send_message_length": -1,
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,  # nobody's DNS says how we call
    "grpc.enable_retries": 0,  # whether to ask again is decided above, by the error's class; the library's costs CPU
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

_OWN_TEXTS = (
    "Stream removed (",
    "No status received",
    "Received http2 header with status",
    "Compression bit set but no encoding configured",
    "CLIENT: Received message larger than max",
)
"""What the texts of the library's own statuses begin with. Only the text shows who made a status: the library gives a
status that it made itself no metadata and a peer's often has none either, and the channel's state may be late."""

_KEY = re.compile(r"[0-9a-z_.-]+")


@cache
def keep_engine() -> None:
    """Keep the library's thread, which waits for the network, as long as the process lives.

    Called before the first channel or server is made: otherwise the library ends the thread, and waits for that, where
    its last object is collected: in the middle of anybody's event loop.
    """
    import grpc.aio

    grpc.aio.init_grpc_aio()


async def load_part(module: str, wanted: str) -> Any:
    """Import a module that needs the library, in a thread: the library is slow to import and reads files.

    Raises BackendNotInstalledError where the library is missing; `wanted` stands in its text.
    """
    try:
        return await asyncio.to_thread(import_module, module)
    except ImportError as error:
        install = await asyncio.to_thread(lambda: registry.find("grpc").install)
        raise BackendNotInstalledError(f"{wanted} needs grpcio: {install}") from error


def open_channel(authority: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel to `host:port`, which connects when it is first used; without credentials it has no TLS."""
    import grpc.aio

    keep_engine()
    name, options = f"dns:///{authority}", tuple(CHANNEL_OPTIONS.items())
    if credentials is None:
        return grpc.aio.insecure_channel(name, options=options)
    return grpc.aio.secure_channel(name, credentials, options=options)


def own_failure(error: grpc.aio.AioRpcError) -> type[ConnectError | ProtocolError] | None:
    """What it means that the library made this status itself; None where the peer made it.

    ConnectError: the connection or the call was lost. ProtocolError: what the peer says is no gRPC, or too large.
    """
    import grpc

    details = error.details() or ""
    if error.trailing_metadata() or not details.startswith(_OWN_TEXTS):
        return None
    lost = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) or "RST_STREAM" in details
    return ConnectError if lost else ProtocolError


def call_metadata(agent_id: str, options: EndpointOptions) -> tuple[tuple[str, str], ...]:
    """What every call to an agent carries. Raises ConfigError on a header that cannot be sent."""
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
    """The options of a server by a host's limits."""
    return (
        ("grpc.so_reuseport", 0),
        # Up to the common limit the service itself refuses what is too large, in words that our callers understand.
        ("grpc.max_receive_message_length", max(limits.body_bytes, COMMON_LIMIT_BYTES)),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", limits.connections),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.server_handshake_timeout_ms", int(limits.body_deadline_s * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_time_ms", 20_000),  # a caller that vanished is found, and the work for it ends
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
    """Have the server listen, and return how it is reached (the socket of it is closed). Raises like `listen`.

    It takes no socket from us, so it binds what one of ours tried, and somebody may be quicker.
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
    raise ConnectError(f"{name}: cannot listen on {host}:{port}: others took the port each time", retryable=False)


async def stop(server: grpc.aio.Server, stop_s: float, name: str) -> None:
    """Accept nothing more, let calls under way finish, and cut the rest off; within `stop_s`."""
    serving = asyncio.create_task(server.stop(0.8 * stop_s), name=f"stop serving:{name}")
    _, hung = await asyncio.wait({serving}, timeout=stop_s)
    if hung:
        logger.warning("%s: its server does not stop", name)
        serving.cancel()
