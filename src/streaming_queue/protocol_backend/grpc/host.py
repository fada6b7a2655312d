"""The host half: one agent's service, its health and its description, on a server of its own."""

from __future__ import annotations

import asyncio
import logging

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.context import Executor
from streaming_queue.comm.execution import Executions
from streaming_queue.comm.listener import listen
from streaming_queue.errors import ConfigError, ConnectError
from streaming_queue.protocol_backend.grpc.codec import SERVICE
from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend
from streaming_queue.protocol_backend.grpc.engine import keep_engine
from streaming_queue.protocol_backend.grpc.health import HEALTH_SERVICE, AgentHealth
from streaming_queue.protocol_backend.grpc.service import AgentService
from streaming_queue.protocol_backend.grpc.statuses import COMMON_LIMIT_BYTES

logger = logging.getLogger(__name__)

MAX_METADATA_BYTES = 64 * 1024
BIND_TRIES = 3


class GrpcAgent:
    """A hosted agent, and its handle."""

    def __init__(
        self,
        agent_id: str,
        base_url: str,
        *,
        executions: Executions,
        server: grpc.aio.Server,
        stop_s: float,
    ) -> None:
        self.agent_id = agent_id
        self.base_url = base_url
        self._executions = executions
        self._server = server
        self._stop_s = stop_s
        self._stopping: asyncio.Task[None] | None = None

    async def drain(self, timeout_s: float) -> None:
        """Take on no question more, be NOT_SERVING, and wait for those under way, `timeout_s` at the most."""
        await self._executions.drain(timeout_s)

    async def stop(self) -> None:
        """Fail what is under way as retryable and stop serving; idempotent, bounded even with a hung executor."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name=f"stop:{self.agent_id}")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        await asyncio.gather(self._executions.aclose(self._stop_s), self._stop_serving())

    async def _stop_serving(self) -> None:
        serving = asyncio.create_task(self._server.stop(0.8 * self._stop_s), name=f"stop serving:{self.agent_id}")
        _, hung = await asyncio.wait({serving}, timeout=self._stop_s)
        if hung:
            logger.warning("agent %r: its server does not stop", self.agent_id)
            serving.cancel()


async def spawn(agent_id: str, host: str, port: int, executor: Executor, backend: GrpcCommBackend) -> GrpcAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Port 0 takes a free one.

    Raises:
        ConfigError: the address is not one of this machine, or is reached by others although nobody is authenticated;
            or TLS is given as an SSLContext, which gRPC cannot use.
        ConnectError: the port is in use.
    """
    options, name = backend.host_options, f"agent {agent_id!r}"
    if options.tls is not None:
        raise ConfigError(
            f"{name}: gRPC takes no ssl.SSLContext: give GrpcCommBackend "
            "server_credentials=grpc.ssl_server_credentials(...)"
        )
    service = AgentService(agent_id, executor, options, backend.request)
    keep_engine()
    server = grpc.aio.server(options=_server_options(options.limits))
    server.add_generic_rpc_handlers((service.handlers(),))
    health_pb2_grpc.add_HealthServicer_to_server(AgentHealth(service.executions), server)
    reflection.enable_server_reflection((SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
    authority = await _bind(server, host, port, backend, name)
    await server.start()
    base_url = f"{'grpc' if backend.server_credentials is None else 'grpcs'}://{authority}"
    return GrpcAgent(
        agent_id,
        base_url,
        executions=service.executions,
        server=server,
        stop_s=options.limits.stop_s,
    )


def _server_options(limits: HostLimits) -> tuple[tuple[str, int], ...]:
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


async def _bind(server: grpc.aio.Server, host: str, port: int, backend: GrpcCommBackend, name: str) -> str:
    """Have the server listen, and return how it is reached.

    It takes no socket from us, so it binds what one of ours tried, and somebody may be quicker.
    """
    credentials = backend.server_credentials
    for _ in range(BIND_TRIES):
        listener = await listen(host, port, backend.host_options, name)
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
        return listener.authority
    raise ConnectError(f"{name}: cannot listen on {host}:{port}: others took the port each time", retryable=False)
