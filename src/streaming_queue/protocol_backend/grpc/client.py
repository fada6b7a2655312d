"""One agent, asked: a channel of its own, and each exchange from the message to its end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError
from grpc import ChannelConnectivity, StatusCode
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.client.cancels import CANCEL_TIMEOUT_S, Cancels, cancel_key
from streaming_queue.comm.client.reconnect import Reconnect
from streaming_queue.comm.context import heard
from streaming_queue.errors import BackendClosedError, ProtocolError, StreamingQueueError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.grpc import agent_pb2
from streaming_queue.protocol_backend.grpc.codec import (
    SERVICE,
    decode_answer,
    decode_description,
    decode_event,
    encode_message,
    serialize,
)
from streaming_queue.protocol_backend.grpc.liveness import SignsOfLife
from streaming_queue.protocol_backend.grpc.statuses import ERROR_KEY, decode_error
from streaming_queue.protocol_backend.grpc.target import Target

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 1.0
DESCRIBE_TIMEOUT_S = 5.0
RUNNING_TIMEOUT_S = 5.0
NOTICED_WITHIN_S = 0.2
END_WITHIN_S = 0.5

_message_ids = (f"{prefix}-{number}" for prefix in [uuid.uuid4().hex] for number in itertools.count(1))


class Peer:
    """An agent behind a channel that connects when it is first used."""

    def __init__(self, target: Target, cancels: Cancels) -> None:
        self.target = target
        self._channel: grpc.aio.Channel | None = None
        self._cancels = cancels
        self._closed = False

    def _open(self) -> grpc.aio.Channel:
        """The channel, and its methods in bytes: what cannot be read is ours to tell."""
        if self._channel is None:
            channel = self._channel = self.target.open_channel()
            self._send = channel.unary_unary(f"/{SERVICE}/Send")
            self._stream = channel.unary_stream(f"/{SERVICE}/Stream")
            self._running = channel.unary_unary(f"/{SERVICE}/Running")
            self._cancel = channel.unary_unary(f"/{SERVICE}/Cancel")
            self._describe = channel.unary_unary(f"/{SERVICE}/Describe")
            self._check = channel.unary_unary("/grpc.health.v1.Health/Check")
        return self._channel

    async def send(self, payload: Mapping[str, Any]) -> Reply:
        """Ask for the whole answer.

        A connection that breaks is made anew if there is an idempotency key: the agent may still be at it, and by its
        key the message comes back to the work under way.
        """
        channel = self._open()
        message_id = next(_message_ids)
        body, headers, seconds = encode_message(payload, message_id)
        metadata = _Entries((*self.target.metadata, *headers.items()))
        until = _moment(seconds)
        recovery = Reconnect(keyed=_is_keyed(payload), broken=partial(_broke, channel))
        try:
            with self._translated(len(body)), SignsOfLife(partial(self._is_at_work, message_id)):
                while True:
                    with recovery:
                        answer = await self._send(body, timeout=_left_s(until), metadata=metadata)
                        return decode_answer(answer, self.target.address)
                    await _noticed(channel)
        except asyncio.CancelledError:
            await self._leave(message_id, payload)
            raise

    async def stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        """Ask, and yield what comes as it comes; after a broken connection what is new."""
        channel = self._open()
        message_id = next(_message_ids)
        body, headers, seconds = encode_message(payload, message_id)
        metadata = _Entries((*self.target.metadata, *headers.items()))
        until = _moment(seconds)
        recovery = Reconnect(keyed=_is_keyed(payload), broken=partial(_broke, channel))
        told, ended = 0, False
        try:
            with self._translated(len(body)), SignsOfLife(partial(self._is_at_work, message_id)):
                while not ended:
                    with recovery:
                        seen = 0
                        call = self._stream(body, timeout=_left_s(until), metadata=metadata)
                        async with aclosing(_events(call, self.target.address)) as events:
                            async for event in events:
                                ended = event["type"] == MESSAGE
                                seen += 1
                                if ended or seen > told:
                                    told = max(told, seen)
                                    yield event
                        return
                    await _noticed(channel)
        except (asyncio.CancelledError, GeneratorExit):
            if not ended:
                await self._leave(message_id, payload)
            raise

    async def _is_at_work(self, message_id: str) -> bool:
        try:
            answer = await self._running(
                _reference(message_id), timeout=RUNNING_TIMEOUT_S, metadata=self.target.metadata
            )
            return bool(agent_pb2.RunningState.FromString(answer).running)
        except (AioRpcError, DecodeError) as error:
            logger.debug("%s does not say whether it is at work: %r", self.target.address, error)
            return False

    async def _leave(self, message_id: str, payload: Mapping[str, Any]) -> None:
        """Tell the agent that nobody waits for its answer any more; one second at the most.

        To a host a cancelled call looks like a broken connection, and so a message with an idempotency key goes on.
        """
        if cancel_key(payload) is not None:
            await self._cancels.tell(self.target.address, partial(self._send_cancel, message_id))

    async def _send_cancel(self, message_id: str) -> None:
        try:
            await self._cancel(_reference(message_id), timeout=CANCEL_TIMEOUT_S, metadata=self.target.metadata)
        except AioRpcError as error:
            logger.debug("%s: the cancel did not arrive (%r); its grace ends it", self.target.address, error)

    async def check(self) -> bool:
        """Whether the agent's server says that it is serving, within one second. Raises like `send`."""
        self._open()
        with self._translated():
            answer = await self._check(b"", timeout=PROBE_TIMEOUT_S, metadata=self.target.metadata)
        health = health_pb2.HealthCheckResponse.FromString(answer)
        return bool(health.status == health_pb2.HealthCheckResponse.SERVING)

    async def describe(self) -> dict[str, Any]:
        """What the agent says about itself; nothing where its service lacks that. Raises like `send`."""
        self._open()
        with self._translated():
            try:
                answer = await self._describe(b"", timeout=DESCRIBE_TIMEOUT_S, metadata=self.target.metadata)
            except AioRpcError as error:
                if error.code() is StatusCode.UNIMPLEMENTED:
                    return {}
                raise
        return decode_description(answer, self.target.address)

    async def close(self) -> None:
        """Give up the channel; calls under way fail."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    def _translated(self, sent_bytes: int = 0) -> _Translated:
        """Turn what the library raises into our errors."""
        return _Translated(self, sent_bytes)

    def failure(self, error: AioRpcError, sent_bytes: int) -> StreamingQueueError:
        """What a call's status says, as one of ours."""
        return decode_error(error, self.target.address, sent_bytes)

    def closing(self) -> BackendClosedError | None:
        """Why a call ended that its caller did not cancel, when its channel was closed."""
        task = asyncio.current_task()
        if not self._closed or task is None or task.cancelling():
            return None
        return BackendClosedError(f"{self.target.address}: the grpc backend was closed before the answer")


class _Translated:
    """See `Peer._translated`. A class, since every question passes one, and a generator costs several times."""

    __slots__ = ("_peer", "_sent_bytes")

    def __init__(self, peer: Peer, sent_bytes: int) -> None:
        self._peer = peer
        self._sent_bytes = sent_bytes

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, AioRpcError):
            raise self._peer.failure(error, self._sent_bytes) from error
        if isinstance(error, asyncio.CancelledError) and (closed := self._peer.closing()):
            raise closed from error


class _Entries(grpc.aio.Metadata):  # type: ignore[misc]  # the library is without types
    """Metadata that is only ever iterated, as the library does once a call; its own kind is several times as slow."""

    def __init__(self, entries: tuple[tuple[str, str], ...]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _is_keyed(payload: Mapping[str, Any]) -> bool:
    return isinstance((payload.get("metadata") or {}).get("idempotency_key"), str)


def _reference(message_id: str) -> bytes:
    return serialize(agent_pb2.Reference(id=message_id))


def _moment(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _left_s(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


async def _events(call: Any, address: str) -> AsyncGenerator[StreamEvent, None]:
    """The events of a stream, the answer at its end. Raises ProtocolError when it ends without."""
    ended = False
    meter = AnswerMeter(address)
    try:
        async with aclosing(aiter(call)) as answers:
            async for answer in answers:
                heard()
                event = decode_event(answer, address)
                if event is not None:
                    meter.take(event)
                    yield event
                    if ended := event["type"] == MESSAGE:
                        break
            if ended:  # the call's status is under way; nobody's answer depends on it
                with suppress(TimeoutError, AioRpcError):
                    async with asyncio.timeout(END_WITHIN_S):
                        await anext(answers, None)
    finally:
        call.cancel()
    if not ended:
        raise ProtocolError(f"{address}: the stream ended without an answer")


def _broke(channel: grpc.aio.Channel, error: BaseException) -> bool:
    """Whether a connection that there was broke: neither did the host speak, nor could none be made."""
    return (
        isinstance(error, AioRpcError)
        and error.code() is StatusCode.UNAVAILABLE
        and ERROR_KEY not in (error.trailing_metadata() or ())
        and channel.get_state() is not ChannelConnectivity.TRANSIENT_FAILURE
    )


async def _noticed(channel: grpc.aio.Channel) -> None:
    """Return when the channel knows that its connection broke, so that no other call is given to it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(NOTICED_WITHIN_S):
            await channel.wait_for_state_change(ChannelConnectivity.READY)
