"""The health of one hosted agent, in gRPC's standard service (`grpc.health.v1`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from grpc import StatusCode
from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2, health_pb2_grpc

from streaming_queue.comm.host.execution import Executions
from streaming_queue.protocol_backend.grpc.codec import SERVICE

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
LOOK_S = 0.5
"""How often a watched agent is looked at: an executor does not say when it gets ready or stops being so."""

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
