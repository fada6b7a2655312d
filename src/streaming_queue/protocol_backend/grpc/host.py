"""The host half: one agent's service, its health and its description, on a server of its own."""

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
from streaming_queue.comm.grpc_wire import bind, keep_engine, server_options, stop
from streaming_queue.comm.host.execution import Executions
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.grpc.codec import SERVICE
from streaming_queue.protocol_backend.grpc.service import AgentService

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
LOOK_S = 0.5
"""The pause between two looks at a watched agent: an executor does not report when it gets ready or busy."""

_Response = health_pb2.HealthCheckResponse


class AgentHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # what protoc writes has no types
    """SERVING while the agent takes questions, for the whole server (`""`) and for our service."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    def _status(self, service: str) -> int:
        if service not in ("", SERVICE):
            return int(_Response.SERVICE_UNKNOWN)
        return int(_Response.SERVING if self._executions.ready else _Response.NOT_SERVING)

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """The status now."""
        status = self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            await context.abort(StatusCode.NOT_FOUND, "no such service is served here")
        return _Response(status=status)

    async def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, context: ServicerContext
    ) -> health_pb2.HealthListResponse:
        """The status of all that is served."""
        del request, context
        return health_pb2.HealthListResponse(
            statuses={service: _Response(status=self._status(service)) for service in ("", SERVICE)}
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status, and each change of it."""
        del context
        told = None
        while True:
            status = self._status(request.service)
            if status != told:
                told = status
                yield _Response(status=status)
            await asyncio.sleep(LOOK_S)


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
        await asyncio.gather(
            self._executions.aclose(self._stop_s), stop(self._server, self._stop_s, f"agent {self.agent_id!r}")
        )


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
            is given as an SSLContext, which gRPC cannot use.
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
    server = grpc.aio.server(options=server_options(options.limits))
    server.add_generic_rpc_handlers((service.handlers(),))
    health_pb2_grpc.add_HealthServicer_to_server(AgentHealth(service.executions), server)
    reflection.enable_server_reflection((SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
    listener = await bind(server, host, port, options, name=name, credentials=credentials)
    await server.start()
    base_url = f"{'grpc' if credentials is None else 'grpcs'}://{listener.authority}"
    return GrpcAgent(
        agent_id,
        base_url,
        executions=service.executions,
        server=server,
        stop_s=options.limits.stop_s,
    )
