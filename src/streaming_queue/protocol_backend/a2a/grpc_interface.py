"""Calls to one agent over its card's gRPC interface."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import orjson
from a2a.types.a2a_pb2 import CancelTaskRequest, GetTaskRequest, SendMessageRequest, SubscribeToTaskRequest
from a2a.types.a2a_pb2_grpc import A2AServiceStub
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc import ChannelConnectivity, StatusCode
from grpc.aio import EOF, AioRpcError

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import HttpSession
from streaming_queue.comm.client.liveness import Watch
from streaming_queue.comm.context import heard
from streaming_queue.comm.grpc_wire import COMMON_LIMIT_BYTES, call_metadata, is_unavailable, open_channel, own_failure
from streaming_queue.comm.strict_json import MAX_ANSWER_VALUES
from streaming_queue.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RemoteError,
    StreamingQueueError,
    UnavailableError,
)
from streaming_queue.protocol_backend.a2a.card import Card
from streaming_queue.protocol_backend.a2a.codec import Result, decode_result, encode_json
from streaming_queue.protocol_backend.a2a.dialect import CALL_EXTENSION, EXTENSIONS_HEADER, VERSION_HEADER
from streaming_queue.protocol_backend.a2a.failures import rpc_error
from streaming_queue.protocol_backend.a2a.message_size import has_more_values

CONNECT_TIMEOUT_S = 2.0
NOTICED_WITHIN_S = 0.2

_DETAILS_KEY = "grpc-status-details-bin"

_BY_STATUS: Mapping[StatusCode, tuple[type[StreamingQueueError], bool]] = {
    StatusCode.UNAUTHENTICATED: (AuthError, False),
    StatusCode.PERMISSION_DENIED: (AuthError, False),
    StatusCode.UNAVAILABLE: (ConnectError, True),
    StatusCode.UNIMPLEMENTED: (ProtocolError, True),
    StatusCode.INVALID_ARGUMENT: (ProtocolError, False),
    StatusCode.FAILED_PRECONDITION: (RemoteError, False),
    StatusCode.OUT_OF_RANGE: (RemoteError, False),
}
"""A peer's status without an A2A error -> the class, and whether to retry; any other is `RemoteError, True`."""

_REQUESTS: Mapping[str, type[Message]] = {
    "send": SendMessageRequest,
    "stream": SendMessageRequest,
    "get_task": GetTaskRequest,
    "cancel_task": CancelTaskRequest,
    "subscribe": SubscribeToTaskRequest,
}
"""Operation (a field of `Dialect`) -> its request; its method has the same name as in JSON-RPC."""


class GrpcInterface:
    """One agent by its card's gRPC interface, over its own channel. It converts messages to their JSON form."""

    def __init__(self, card: Card, agent_id: str, address: str, options: EndpointOptions, session: HttpSession) -> None:
        """Raises ConfigError if gRPC cannot use the agent's options."""
        self.card = card
        self.address = address
        self._session = session
        metadata = dict(call_metadata(agent_id, options))
        metadata[VERSION_HEADER.lower()] = card.dialect.version
        if card.call_extension:
            metadata[EXTENSIONS_HEADER.lower()] = CALL_EXTENSION
        self._metadata = tuple(metadata.items())
        self._tenant = {"tenant": card.tenant} if card.tenant else {}
        encrypted = card.url.scheme == "https"
        if encrypted and options.tls is not None:
            raise ConfigError(f"{self.address}: gRPC cannot use the ssl.SSLContext of the agent's tls option")
        authority = f"{card.url.host_subcomponent}:{card.url.port}"
        self._channel = open_channel(authority, grpc.ssl_channel_credentials() if encrypted else None)
        self._stub = A2AServiceStub(self._channel)  # type: ignore[no-untyped-call]

    @property
    def ready(self) -> bool:
        """Whether there is a connection."""
        return self._channel.get_state() is ChannelConnectivity.READY

    async def connect(self) -> None:
        """Wait for a connection, `CONNECT_TIMEOUT_S` at most. Raises ConnectError if it fails."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                state = self._channel.get_state(try_to_connect=True)
                while state is not ChannelConnectivity.READY:
                    if state is ChannelConnectivity.TRANSIENT_FAILURE:
                        raise UnavailableError(f"{self.address}: cannot connect by gRPC to {self.card.url}")
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise UnavailableError(
                f"{self.address}: no connection by gRPC to {self.card.url} within {CONNECT_TIMEOUT_S:g} s"
            ) from None

    async def call(self, operation: str, params: Mapping[str, Any], request_id: str, watch: Watch | None = None) -> Any:
        """One call, one result. Raises the peer's error as ours, and ConfigError if gRPC cannot send the params.

        `watch` watches the wait for the response.
        """
        del request_id
        method, request = self._method(operation, params)
        async with self._translated(request):
            call = method(request, metadata=self._metadata)
            answer = await (call if watch is None else watch.answer(call))
        return self._decoded(answer)

    async def events(
        self, operation: str, params: Mapping[str, Any], request_id: str, watch: Watch | None = None
    ) -> AsyncGenerator[Result, None]:
        """One call; yield the peer's results until the stream ends. Raises like `call`."""
        del request_id
        method, request = self._method(operation, params)
        report_life = heard if watch is None else watch.heard
        call = method(request, metadata=self._metadata)
        try:
            while True:
                async with self._translated(request):
                    event = await (call.read() if watch is None else watch.answer(call.read()))
                if event is EOF:
                    return
                report_life()
                yield decode_result(self._decoded(event), self.address)
        finally:
            call.cancel()

    async def check_auth(self) -> None:
        """Get a task that does not exist. Any A2A answer passes the check; raises other failures like `call`."""
        method, request = self._method("get_task", {"id": uuid.uuid4().hex})
        async with self._translated(request):
            try:
                await method(request, metadata=self._metadata)
            except AioRpcError as error:
                if said_by_a2a(error) is None:
                    raise

    async def close(self) -> None:
        """Close the channel; calls in flight fail."""
        await self._channel.close()

    def _method(self, operation: str, params: Mapping[str, Any]) -> tuple[Any, Message]:
        document = orjson.loads(encode_json({**self._tenant, **params}))
        try:
            request = json_format.ParseDict(document, _REQUESTS[operation]())
        except json_format.ParseError as error:
            raise ConfigError(f"the payload cannot be sent by gRPC: {error}") from error
        return getattr(self._stub, getattr(self.card.dialect, operation)), request

    def _decoded(self, answer: Message) -> dict[str, Any]:
        if has_more_values(answer, MAX_ANSWER_VALUES):
            reason = f"the answer has more than {MAX_ANSWER_VALUES:,} values"
            raise ProtocolError(f"{self.address}: {reason}", retryable=False)
        try:
            document: dict[str, Any] = json_format.MessageToDict(answer)
        except json_format.Error as error:
            raise ProtocolError(f"{self.address}: the answer cannot be written as JSON: {error}") from error
        return document

    @asynccontextmanager
    async def _translated(self, request: Message) -> AsyncIterator[None]:
        """Turn the library's errors into ours; a broken connection gives the same error as over HTTP."""
        try:
            yield
        except AioRpcError as error:
            if error.code() is StatusCode.UNAVAILABLE and said_by_a2a(error) is None and await self._broke():
                broken = ConnectionResetError(error.details())
                raise self._session.failure(broken, self.address) from broken
            raise status_error(error, self.address, request.ByteSize()) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling() or self._channel.get_state() is not ChannelConnectivity.SHUTDOWN:
                raise
            # Closing the channel cancelled the call; the caller was not cancelled.
            closed = ConnectionResetError("the channel was closed")
            raise self._session.failure(closed, self.address) from closed

    async def _broke(self) -> bool:
        """Whether there was a connection; returns when the channel has noticed the loss, so that no call uses it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTICED_WITHIN_S):
                await self._channel.wait_for_state_change(ChannelConnectivity.READY)
        return self._channel.get_state() is not ChannelConnectivity.TRANSIENT_FAILURE


def said_by_a2a(error: AioRpcError) -> Mapping[str, Any] | None:
    """The A2A error of a failed call, in the form of HTTP+JSON; None if the library or a proxy failed the call."""
    document = dict(error.trailing_metadata() or ()).get(_DETAILS_KEY)
    if not isinstance(document, bytes):
        return None
    try:
        status = status_pb2.Status.FromString(document)
        details = []
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                details.append(json_format.MessageToDict(info))
    except DecodeError:
        return None
    return {"status": error.code().name, "message": status.message, "details": details} if details else None


def status_error(error: AioRpcError, address: str, sent_bytes: int) -> StreamingQueueError:
    """The error for a failed call. If resources were exhausted, the cause is a message over the common limit."""
    if (said := said_by_a2a(error)) is not None:
        return rpc_error(said, address)
    status = error.code()
    cls, retryable = _BY_STATUS.get(status, (RemoteError, True))
    text = f"{address}: gRPC {status.name}: {(error.details() or '')[:300]!a}"
    if cls is RemoteError and (own := own_failure(error)) is not None:
        return own(text, retryable=True)
    if is_unavailable(error):
        return UnavailableError(text)
    if status is StatusCode.RESOURCE_EXHAUSTED and sent_bytes > COMMON_LIMIT_BYTES:
        return ProtocolError(f"{text}; the message has {sent_bytes} bytes", retryable=False)
    return cls(text, retryable=retryable)
