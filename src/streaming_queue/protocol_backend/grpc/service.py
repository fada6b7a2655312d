"""The service of one hosted agent: the checks before a call, the methods, and the end of a call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from grpc import StatusCode
from grpc.aio import EOF, ServicerContext

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.grpc_wire import stop
from streaming_queue.comm.host.admission import Admission, Refusal
from streaming_queue.comm.host.agent import HostedAgent
from streaming_queue.comm.host.execution import HEARTBEAT_S, Execution
from streaming_queue.comm.payload import malformed
from streaming_queue.errors import (
    AgentFailedError,
    ProtocolError,
    RateLimitedError,
    SendTimeoutError,
    StreamingQueueError,
    error_event,
)
from streaming_queue.messages import ERROR, StreamEvent
from streaming_queue.protocol_backend.grpc import agent_pb2
from streaming_queue.protocol_backend.grpc.codec import (
    HEARTBEAT,
    SERVICE,
    decode_message,
    encode_answer,
    encode_description,
    encode_event,
    serialize,
)
from streaming_queue.protocol_backend.grpc.statuses import encode_error

logger = logging.getLogger(__name__)

Wire = TypeVar("Wire", bound=Message)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call after its caller is identified."""

    context: ServicerContext
    metadata: Mapping[str, str]
    principal: str | None


Name = tuple[str | None, str]
"""Principal and message id: each principal has its own ids."""

Method = Callable[[_Call], Awaitable[bytes | StreamEvent | None]]
"""Returns the response, None at the end of a stream, or the event of a failure."""


class GrpcAgent(HostedAgent):
    """A hosted agent: the service of `agent.proto` on `server`, by the options of `backend`, and its handle."""

    def __init__(self, agent_id: str, executor: Executor, backend: BaseCommBackend, server: grpc.aio.Server) -> None:
        super().__init__(agent_id, executor, backend)
        self._executor = executor
        self._server = server
        self._admission = Admission(self._options, hosts=())
        self._limits = self._options.limits
        self._served = 0
        self._by_id: dict[Name, Execution] = {}

    @property
    def ready(self) -> bool:
        """Whether the agent takes questions."""
        return self._executions.ready

    async def _stop(self) -> None:
        stop_s = self._limits.stop_s
        await asyncio.gather(self._executions.aclose(stop_s), stop(self._server, stop_s, str(self)))

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods, for gRPC.

        Each method is declared with a stream of requests; the wire is the same. So the service itself reads the one
        request, after it knows the caller and within the limit of time.
        """
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Send": grpc.stream_unary_rpc_method_handler(self._served_by(self._send)),
                "Stream": grpc.stream_stream_rpc_method_handler(self._served_by(self._stream)),
                "Running": grpc.stream_unary_rpc_method_handler(self._served_by(self._running)),
                "Cancel": grpc.stream_unary_rpc_method_handler(self._served_by(self._cancel)),
                "Describe": grpc.stream_unary_rpc_method_handler(self._served_by(self._describe)),
            },
        )

    def _served_by(self, method: Method) -> Callable[[Any, ServicerContext], Awaitable[bytes | None]]:
        """`method` for callers with the right to call it; a failure becomes the call's status."""

        async def serve(_: Any, context: ServicerContext) -> bytes | None:
            status = None
            try:
                metadata = dict(context.invocation_metadata())
                outcome = await method(_Call(context, metadata, await self._identify(metadata)))
            except ProtocolError as error:
                outcome, status = error_event(error), StatusCode.INVALID_ARGUMENT
            except StreamingQueueError as error:
                outcome = error_event(error)
            except Exception:
                logger.exception("a call to agent %s failed", self.agent_id)
                outcome = error_event(AgentFailedError("the host failed on this call; its log has the reason"))
            if not isinstance(outcome, dict):
                return outcome
            code, text, trailers = encode_error(outcome)
            await context.abort(status or code, text, trailers)
            return None

        return serve

    async def _identify(self, metadata: Mapping[str, str]) -> str | None:
        identity = await self._admission.identify(metadata.get("authorization", "").encode())
        if isinstance(identity, Refusal):
            raise identity.error
        return identity

    async def _read(self, call: _Call, kind: type[Wire]) -> Wire:
        limits = self._limits
        try:
            async with asyncio.timeout(limits.body_deadline_s):
                body = await call.context.read()
        except TimeoutError:
            raise SendTimeoutError(f"the call's message took longer than {limits.body_deadline_s:g} s") from None
        if body is EOF:
            raise malformed("the call has no message")
        if len(body) > limits.body_bytes:
            raise malformed(f"the call's message is over the limit of {limits.body_bytes} bytes")
        try:
            message: Wire = kind.FromString(body)
        except DecodeError as error:
            raise malformed(f"the call's message is not a {kind.DESCRIPTOR.full_name}: {error}") from error
        return message

    @contextmanager
    def _attached(self, call: _Call, message: agent_pb2.Message, *, streaming: bool) -> Iterator[Execution]:
        """The execution for a message; while it runs, the service finds it by the message's id."""
        if self._served >= self._limits.connections:
            raise RateLimitedError("the host has too many messages in flight", retry_after_s=1.0)
        payload = decode_message(message, call.metadata, call.context.time_remaining())
        request = self._request(payload, principal=call.principal, streaming=streaming)
        self._served += 1
        try:
            with self._executions.attach(request) as execution:
                if message.id:
                    self._remember((call.principal, message.id), execution)
                yield execution
        finally:
            self._served -= 1

    def _remember(self, name: Name, execution: Execution) -> None:
        def forget(_: object) -> None:
            if self._by_id.get(name) is execution:
                del self._by_id[name]

        self._by_id[name] = execution
        execution.task.add_done_callback(forget)

    async def _send(self, call: _Call) -> bytes | StreamEvent:
        message = await self._read(call, agent_pb2.Message)
        with self._attached(call, message, streaming=False) as execution:
            end = await execution.result()
        return end if end["type"] == ERROR else encode_answer(end)

    async def _stream(self, call: _Call) -> StreamEvent | None:
        message = await self._read(call, agent_pb2.Message)
        with self._attached(call, message, streaming=True) as execution:
            async with aclosing(execution.batches(HEARTBEAT_S)) as batches:
                async for batch in batches:
                    for event in batch:
                        if event["type"] == ERROR:
                            return event
                        await self._write(call, encode_event(event))
                    if not batch:
                        await self._write(call, HEARTBEAT)
        return None

    async def _write(self, call: _Call, event: bytes) -> None:
        limit_s = 3 * self._limits.body_deadline_s
        try:
            async with asyncio.timeout(limit_s):
                await call.context.write(event)
        except TimeoutError:
            raise SendTimeoutError(f"the caller did not read the stream for {limit_s:g} s") from None

    async def _running(self, call: _Call) -> bytes:
        execution = await self._referred(call)
        return serialize(agent_pb2.RunningState(running=execution is not None and not execution.done))

    async def _cancel(self, call: _Call) -> bytes:
        execution = await self._referred(call)
        cancelled = execution is not None and not (execution.done or execution.is_command)
        if execution is not None and cancelled:
            await self._executions.discard(execution)
        return serialize(agent_pb2.CancelResult(cancelled=cancelled))

    async def _describe(self, call: _Call) -> bytes:
        del call
        return encode_description(self.agent_id, self._executor)

    async def _referred(self, call: _Call) -> Execution | None:
        reference = await self._read(call, agent_pb2.Reference)
        return self._by_id.get((call.principal, reference.id))
