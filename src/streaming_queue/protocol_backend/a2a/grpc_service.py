"""gRPC beside HTTP: the same agent as the gRPC service of A2A 1.0, on a separate port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.grpc_handler import GrpcHandler, GrpcServerCallContextBuilder
from a2a.types.a2a_pb2 import SendMessageRequest, SubscribeToTaskRequest
from a2a.types.a2a_pb2_grpc import add_A2AServiceServicer_to_server
from a2a.utils.errors import A2A_ERROR_MAPPING, A2AError, InvalidRequestError, VersionNotSupportedError
from a2a.utils.grpc_status import status_to_grpc
from a2a.utils.proto_utils import to_stream_response
from google.rpc import error_details_pb2, status_pb2

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.grpc_wire import bind, keep_engine, server_options, stop
from streaming_queue.comm.host.admission import Admission, Refusal
from streaming_queue.comm.strict_json import MAX_VALUES
from streaming_queue.errors import ConfigError
from streaming_queue.messages import ERROR
from streaming_queue.protocol_backend.a2a.dialect import V1, VERSION_HEADER, known_version
from streaming_queue.protocol_backend.a2a.handler import AgentHandler, Principal
from streaming_queue.protocol_backend.a2a.message_size import has_more_values
from streaming_queue.protocol_backend.a2a.native import NativeHandler

logger = logging.getLogger(__name__)

MAX_TEXT = 1000
"""The longest text of an error; it is sent twice, and gRPC accepts 8 KiB of metadata by default."""

_DOMAIN = "a2a-protocol.org"
_principal: ContextVar[str | None] = ContextVar("principal")

Behaviour = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


class GrpcDoor:
    """A running gRPC server. `port` is its port."""

    def __init__(self, server: grpc.aio.Server, *, port: int, stop_s: float, name: str) -> None:
        self.port = port
        self._server = server
        self._stop_s = stop_s
        self._name = name

    async def stop(self) -> None:
        """Accept no more calls, let calls in flight finish, and cancel the rest; idempotent, within `stop_s`."""
        await stop(self._server, self._stop_s, self._name)


async def open_door(handler: AgentHandler | NativeHandler, host: str, options: HostOptions, name: str) -> GrpcDoor:
    """Serve `handler` by gRPC on a free port of `host`; returns when it is ready.

    Raises ConfigError like `comm.host.listener.listen`, and if the host has TLS: gRPC cannot use its ssl.SSLContext.
    """
    if options.tls is not None:
        raise ConfigError(f"{name}: gRPC cannot use its ssl.SSLContext: set a2a.grpc to false, or serve without TLS")
    service = _Service(handler, 3 * options.limits.body_deadline_s)
    keep_engine()
    server = grpc.aio.server(options=server_options(options.limits), interceptors=(_Guard(service, options, name),))
    add_A2AServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    listener = await bind(server, host, 0, options, name=name)
    await server.start()
    return GrpcDoor(server, port=listener.port, stop_s=options.limits.stop_s, name=name)


class _Calls(GrpcServerCallContextBuilder):
    """The SDK's context of a call, with our principal as its user."""

    def build(self, context: grpc.aio.ServicerContext) -> ServerCallContext:
        """The context for one call. Raises VersionNotSupportedError for any version but 1.0."""
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        if known_version(metadata.get(VERSION_HEADER.lower(), "").encode()) != V1.version:
            raise VersionNotSupportedError(
                f"this service speaks A2A {V1.version}: name it in the metadata {VERSION_HEADER.lower()}"
            )
        return ServerCallContext(user=Principal(_principal.get() or ""), state={"headers": metadata})


class _Service(GrpcHandler):
    """The SDK's service. A failure keeps its class; a stream ends if its reader leaves or does not read."""

    def __init__(self, handler: AgentHandler | NativeHandler, patience_s: float) -> None:
        self._calls = _Calls()
        self._handler = handler
        self._patience_s = patience_s
        super().__init__(handler, self._calls)

    async def SendStreamingMessage(  # type: ignore[override]  # noqa: N802  # it writes the events itself
        self, request: SendMessageRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """Send the events of a message."""
        await self._send_events(self._handler.on_message_send_stream, request, context)

    async def SubscribeToTask(  # type: ignore[override]  # noqa: N802
        self, request: SubscribeToTaskRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """Send the events of a task."""
        await self._send_events(self._handler.on_subscribe_to_task, request, context)

    async def _send_events(
        self, opened: Callable[..., AsyncIterator[Any]], request: Any, context: grpc.aio.ServicerContext
    ) -> None:
        try:
            async with aclosing(opened(request, self._calls.build(context))) as events:  # type: ignore[type-var]
                async for event in events:
                    await self._write(context, event)
        except A2AError as error:
            await self.abort_context(error, context)

    async def _write(self, context: grpc.aio.ServicerContext, event: Any) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await context.write(to_stream_response(event))
        except TimeoutError:
            await context.abort(grpc.StatusCode.ABORTED, f"the caller did not read for {self._patience_s:g} s")

    async def abort_context(self, error: A2AError, context: grpc.aio.ServicerContext) -> None:
        """End the call with the error's status; its ErrorInfo has the failure of an execution."""
        error.message = error.message[:MAX_TEXT]
        if not (isinstance(error.data, dict) and error.data.get("type") == ERROR):
            await super().abort_context(error, context)
            return
        mapping = A2A_ERROR_MAPPING[type(error)]
        code = grpc.StatusCode[mapping.grpc_status]
        status = status_pb2.Status(code=code.value[0], message=error.message)
        status.details.add().Pack(
            error_details_pb2.ErrorInfo(reason=mapping.reason, domain=_DOMAIN, metadata=error.data)
        )
        await context.abort(code, error.message, status_to_grpc(status).trailing_metadata)


class _Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Checks callers and message limits; the text of a foreign exception never leaves the host."""

    def __init__(self, service: _Service, options: HostOptions, name: str) -> None:
        self._service = service
        self._admission = Admission(options, hosts=())
        self._limit = options.limits.body_bytes
        self._name = name

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """The method, guarded."""
        method = await continuation(handler_call_details)
        if method is None:
            return None
        make, behaviour = (
            (grpc.unary_stream_rpc_method_handler, method.unary_stream)
            if method.response_streaming
            else (grpc.unary_unary_rpc_method_handler, method.unary_unary)
        )
        return make(self._guarded(behaviour), method.request_deserializer, method.response_serializer)

    def _guarded(self, behaviour: Behaviour) -> Behaviour:
        async def serve(request: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                identity = await self._identify(context)
                if isinstance(identity, Refusal):
                    return await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(identity.error))
                _principal.set(identity)
                if request.ByteSize() > self._limit:
                    too_large = InvalidRequestError(f"the call's message is over the limit of {self._limit} bytes")
                    return await self._service.abort_context(too_large, context)
                if has_more_values(request, MAX_VALUES):
                    too_many = InvalidRequestError(f"the call's message has more than {MAX_VALUES:,} values")
                    return await self._service.abort_context(too_many, context)
                return await behaviour(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception:
                logger.exception("%s: a call failed", self._name)
                return await context.abort(grpc.StatusCode.INTERNAL, "the host failed on this call; its log says why")

        return serve

    async def _identify(self, context: grpc.aio.ServicerContext) -> str | Refusal | None:
        metadata = dict(context.invocation_metadata())
        return await self._admission.identify(str(metadata.get("authorization", "")).encode())
