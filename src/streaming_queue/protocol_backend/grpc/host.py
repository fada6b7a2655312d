"""The host half: one agent's service, health and description, on its own server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from grpc import StatusCode
from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.grpc_wire import bind, keep_engine, server_options
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.grpc.codec import SERVICE
from streaming_queue.protocol_backend.grpc.service import GrpcAgent

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
LOOK_S = 0.5
"""The pause between two checks of a watched agent: an executor does not report when it becomes ready or busy."""

_Response = health_pb2.HealthCheckResponse


class AgentHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated code has no types
    """SERVING while the agent takes questions, for the whole server (`""`) and for our service."""

    def __init__(self, agent: GrpcAgent) -> None:
        self._agent = agent

    def _status(self, service: str) -> int:
        if service not in ("", SERVICE):
            return int(_Response.SERVICE_UNKNOWN)
        return int(_Response.SERVING if self._agent.ready else _Response.NOT_SERVING)

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """The current status."""
        status = self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            await context.abort(StatusCode.NOT_FOUND, "this host does not have the service")
        return _Response(status=status)

    async def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, context: ServicerContext
    ) -> health_pb2.HealthListResponse:
        """The status of all services."""
        del request, context
        return health_pb2.HealthListResponse(
            statuses={service: _Response(status=self._status(service)) for service in ("", SERVICE)}
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status, and each change of it."""
        del context
        sent = None
        while True:
            status = self._status(request.service)
            if status != sent:
                sent = status
                yield _Response(status=status)
            await asyncio.sleep(LOOK_S)


async def spawn(
    agent_id: str,
    host: str,
    port: int,
    executor: Executor,
    backend: BaseCommBackend,
    *,
    credentials: grpc.ServerCredentials | None = None,
) -> GrpcAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Port 0 takes a free one.

    `credentials` are the server's for TLS; None: the server has no TLS.

    Raises:
        ConfigError: the address is not one of this machine, or other machines reach it without authentication; or TLS
            is set by an SSLContext: gRPC cannot use one.
        ConnectError: the port is in use.
    """
    options, name = backend.host_options, f"agent {agent_id!r}"
    if options.tls is not None:
        raise ConfigError(
            f"{name}: gRPC takes no ssl.SSLContext: pass GrpcCommBackend "
            "server_credentials=grpc.ssl_server_credentials(...)"
        )
    keep_engine()
    server = grpc.aio.server(options=server_options(options.limits))
    agent = GrpcAgent(agent_id, executor, backend, server)
    server.add_generic_rpc_handlers((agent.handlers(),))
    health_pb2_grpc.add_HealthServicer_to_server(AgentHealth(agent), server)
    reflection.enable_server_reflection((SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
    listener = await bind(server, host, port, options, name=name, credentials=credentials)
    await server.start()
    agent.base_url = f"{'grpc' if credentials is None else 'grpcs'}://{listener.authority}"
    return agent
