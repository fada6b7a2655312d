"""One remote agent: its channel, and each exchange from the message to its end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
from google.protobuf.message import DecodeError
from grpc import ChannelConnectivity, StatusCode
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.exchange import CANCEL_TIMEOUT_S, Cancels, Exchange
from streaming_queue.comm.client.liveness import Watch
from streaming_queue.comm.grpc_wire import call_metadata, open_channel
from streaming_queue.errors import BackendClosedError, ConfigError
from streaming_queue.messages import Reply, StreamEvent
from streaming_queue.protocol_backend.grpc import agent_pb2
from streaming_queue.protocol_backend.grpc.codec import (
    SERVICE,
    decode_answer,
    decode_description,
    decode_event,
    encode_message,
    serialize,
)
from streaming_queue.protocol_backend.grpc.statuses import ERROR_KEY, decode_error

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 1.0
DESCRIBE_TIMEOUT_S = 5.0
RUNNING_TIMEOUT_S = 4.0
LOOK_AFTER_S = 15.0
"""After this silence of a call, in seconds, we ask the agent whether it still works."""
NOTICED_WITHIN_S = 0.2

_message_ids = (f"{prefix}-{number}" for prefix in [uuid.uuid4().hex] for number in itertools.count(1))


class Peer:
    """An agent behind a channel that connects at first use."""

    def __init__(
        self, agent_id: str, address: str, options: EndpointOptions, credentials: grpc.ChannelCredentials | None
    ) -> None:
        """`credentials` are gRPC's own for TLS, None for its default trust.

        Raises ConfigError on an address, a header or a TLS option that is not valid.
        """
        try:
            url = urlsplit(address)
            usable = url.scheme in ("grpc", "grpcs") and url.hostname and url.port and not url.username
        except ValueError:
            usable = False
        if not usable or url.path.strip("/") or url.query or url.fragment:
            raise ConfigError(
                f"agent {agent_id!r}: address {address.rpartition('@')[2]!r} must be grpc://host:port or "
                "grpcs://host:port; set a credential in the agent's options"
            )
        if options.tls is not None:
            raise ConfigError(
                f"agent {agent_id!r}: gRPC takes no ssl.SSLContext: pass GrpcCommBackend "
                "channel_credentials={...: grpc.ssl_channel_credentials(...)}"
            )
        self.address = address.rstrip("/")
        self.metadata = call_metadata(agent_id, options)
        self._authority = url.netloc
        self._credentials = None if url.scheme == "grpc" else credentials or grpc.ssl_channel_credentials()
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    def open(self) -> grpc.aio.Channel:
        """The channel, with methods for raw bytes, so that unreadable bytes raise our errors."""
        if self._channel is None:
            channel = self._channel = open_channel(self._authority, self._credentials)
            self.send = channel.unary_unary(f"/{SERVICE}/Send")
            self.stream = channel.unary_stream(f"/{SERVICE}/Stream")
            self.running = channel.unary_unary(f"/{SERVICE}/Running")
            self.cancel = channel.unary_unary(f"/{SERVICE}/Cancel")
            self._describe = channel.unary_unary(f"/{SERVICE}/Describe")
            self._check = channel.unary_unary("/grpc.health.v1.Health/Check")
        return self._channel

    async def check(self) -> bool:
        """Whether the agent's server reports SERVING within one second. Raises like `send`."""
        self.open()
        with self.translated():
            answer = await self._check(b"", timeout=PROBE_TIMEOUT_S, metadata=self.metadata)
        health = health_pb2.HealthCheckResponse.FromString(answer)
        return bool(health.status == health_pb2.HealthCheckResponse.SERVING)

    async def describe(self) -> dict[str, Any]:
        """The agent's description; empty if its service has none. Raises like `send`."""
        self.open()
        with self.translated():
            try:
                answer = await self._describe(b"", timeout=DESCRIBE_TIMEOUT_S, metadata=self.metadata)
            except AioRpcError as error:
                if error.code() is StatusCode.UNIMPLEMENTED:
                    return {}
                raise
        return decode_description(answer, self.address)

    async def close(self) -> None:
        """Close the channel; calls in flight fail."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    def translated(self, sent_bytes: int = 0) -> _Translated:
        """A block that turns the library's errors into ours; the message has `sent_bytes`."""
        return _Translated(self, sent_bytes)

    def closing(self) -> BackendClosedError | None:
        """The error for a call that ended because its channel was closed, None if it was not."""
        task = asyncio.current_task()
        if not self._closed or task is None or task.cancelling():
            return None
        return BackendClosedError(f"{self.address}: the grpc backend was closed before the answer")


class _Translated:
    """See `Peer.translated`. It is a class, since each question enters one and a generator costs more CPU."""

    __slots__ = ("_peer", "_sent_bytes")

    def __init__(self, peer: Peer, sent_bytes: int) -> None:
        self._peer = peer
        self._sent_bytes = sent_bytes

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, AioRpcError):
            raise decode_error(error, self._peer.address, self._sent_bytes) from error
        if isinstance(error, asyncio.CancelledError) and (closed := self._peer.closing()):
            raise closed from error


class _Entries(grpc.aio.Metadata):  # type: ignore[misc]  # the library is without types
    """Metadata that can only be iterated: the library does this once for each call, and its own class is slower."""

    def __init__(self, entries: tuple[tuple[str, str], ...]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class GrpcExchange(Exchange):
    """`Send` or `Stream`. The host finds the work again by the idempotency key; a call has the message's deadline."""

    def __init__(self, peer: Peer, payload: Mapping[str, Any], cancels: Cancels) -> None:
        message_id = next(_message_ids)
        self._body, headers, seconds = encode_message(payload, message_id)
        super().__init__(peer.address, payload, cancels, peer.translated(len(self._body)))
        self._peer = peer
        self._channel = peer.open()
        self._message_id = message_id
        self._headers = _Entries((*peer.metadata, *headers.items()))
        self._until = None if seconds is None else time.monotonic() + seconds

    def resumes(self, error: Exception) -> bool:
        """Whether an open connection broke: the host did not send the status, and there was a connection."""
        return (
            self.key is not None
            and isinstance(error, AioRpcError)
            and error.code() is StatusCode.UNAVAILABLE
            and ERROR_KEY not in (error.trailing_metadata() or ())
            and self._channel.get_state() is not ChannelConnectivity.TRANSIENT_FAILURE
        )

    async def ask(self) -> Reply:
        """Call `Send`; `raw` is its `Answer`."""
        async with aclosing(Watch(self._is_at_work, LOOK_AFTER_S, self.address)):
            answer = await self._peer.send(self._body, timeout=await self._left_s(), metadata=self._headers)
        return decode_answer(answer, self.address)

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """Call `Stream`."""
        call = self._peer.stream(self._body, timeout=await self._left_s(), metadata=self._headers)
        try:
            async with (
                aclosing(Watch(self._is_at_work, LOOK_AFTER_S, self.address)) as watch,
                aclosing(aiter(call)) as messages,
            ):
                async for message in messages:
                    watch.heard()
                    event = decode_event(message, self.address)
                    if event is not None:
                        yield event
        finally:
            call.cancel()

    async def _left_s(self) -> float | None:
        """The seconds until the deadline. After a broken connection, wait until the channel has noticed the break."""
        if self.resumed:
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTICED_WITHIN_S):
                    await self._channel.wait_for_state_change(ChannelConnectivity.READY)
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    async def _is_at_work(self) -> bool | None:
        try:
            answer = await self._peer.running(self._reference, timeout=RUNNING_TIMEOUT_S, metadata=self._peer.metadata)
            return agent_pb2.RunningState.FromString(answer).running or None
        except (AioRpcError, DecodeError) as error:
            logger.debug("%s does not say whether it works: %r", self.address, error)
            return None

    @property
    def _reference(self) -> bytes:
        return serialize(agent_pb2.Reference(id=self._message_id))

    async def cancel(self) -> None:
        """Call `Cancel`. For a host, a cancelled call is a broken connection: a message with a key goes on."""
        await self._peer.cancel(self._reference, timeout=CANCEL_TIMEOUT_S, metadata=self._peer.metadata)
