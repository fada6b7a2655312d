"""The host half: an executor behind a subject; other instances of the agent may share the subject."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import aclosing, suppress
from functools import partial
from secrets import token_hex
from typing import Any

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.host.admission import Admission, Refusal
from streaming_queue.comm.host.agent import HostedAgent
from streaming_queue.comm.host.execution import HEARTBEAT_S, Execution
from streaming_queue.errors import (
    AgentFailedError,
    CommError,
    ProtocolError,
    RateLimitedError,
    StreamingQueueError,
    error_event,
)
from streaming_queue.messages import DELTA, STATUS, StreamEvent
from streaming_queue.protocol_backend.nats.codec import (
    CREDENTIAL_HEADER,
    QUEUE_GROUP,
    STREAM,
    STREAM_HEADER,
    decode_request,
    encode_event,
    encode_health,
    is_no_responders,
)
from streaming_queue.protocol_backend.nats.link import Link

logger = logging.getLogger(__name__)

FIRST_SIGN_S = 0.25
"""If the answer takes longer, in seconds, a heartbeat first shows the caller which process has the message."""


class _Reader:
    """A waiting caller: the subject of its inbox, and the subject by which the host learns that it left."""

    __slots__ = ("cancelled", "control", "execution", "inbox", "task")

    task: asyncio.Task[None]

    def __init__(self, inbox: str, control: str) -> None:
        self.inbox = inbox
        self.control = control
        self.cancelled = False
        self.execution: Execution | None = None


class NatsAgent(HostedAgent):
    """A hosted agent, and its handle."""

    lasting = True

    def __init__(self, agent_id: str, subject: str, link: Link, executor: Executor, backend: BaseCommBackend) -> None:
        super().__init__(agent_id, executor, backend)
        self.base_url = f"{link.server}/{subject}"
        self._subject = subject
        self._link = link
        self._limits = self._options.limits
        self._admission = Admission(self._options, hosts=())
        self._readers: dict[str, _Reader] = {}
        self._readers_by_control: dict[str, _Reader] = {}
        self._control = ""
        self._taking = True
        self._entries: list[Subscription] = []
        self._asides: list[Subscription] = []
        self._work: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take messages from now on. Raises like `Link.open`."""
        try:
            await self._link.add(self)
        except BaseException:
            await self._link.leave([*self._entries, *self._asides], 0.1 * self._limits.stop_s)
            raise

    # --- the subjects ---

    async def join(self, link: Link) -> None:
        """Subscribe; to questions only while the agent takes them."""
        self._control = f"{link.inbox}.{token_hex(8)}"
        self._asides = [
            await link.subscribe(f"{self._control}.*", self._on_control),
            await link.subscribe(f"{self._subject}.cancel", self._on_cancel),
        ]
        if self._taking:
            self._entries = [
                await link.subscribe(f"{self._subject}.health", self._on_health, QUEUE_GROUP),
                await link.subscribe(self._subject, self._on_message, QUEUE_GROUP),
            ]

    def broken(self, error: CommError) -> None:
        """Drop all readers; a caller that returns finds the work by its key."""
        del error
        for reader in self._readers.values():
            reader.task.cancel()

    def denied(self, reason: str) -> None:
        """Log that the server denied a reply."""
        logger.warning("agent %s: the server says: %s", self.agent_id, reason)

    # --- messages ---

    async def _on_message(self, message: Msg) -> None:
        if not message.reply:
            logger.debug("agent %s: ignoring a message without a reply subject", self.agent_id)
            return
        reader = _Reader(message.reply, f"{self._control}.{token_hex(8)}")
        self._readers[reader.inbox] = self._readers_by_control[reader.control] = reader
        reader.task = asyncio.create_task(self._serve(message, reader), name=f"serve:{self.agent_id}")
        reader.task.add_done_callback(partial(self._left, reader))

    def _left(self, reader: _Reader, _: asyncio.Task[None]) -> None:
        self._readers_by_control.pop(reader.control, None)
        if self._readers.get(reader.inbox) is reader:
            del self._readers[reader.inbox]

    async def _on_cancel(self, message: Msg) -> None:
        """Cancel a request: the message's reply subject is the inbox of the request."""
        reader = self._readers.get(message.reply)
        if reader is not None:
            self._begin(self._cancel(reader), "cancel")

    async def _on_control(self, message: Msg) -> None:
        """A caller's check of this process: silence means it lives. Or the server's report that a reader left."""
        reader = self._readers_by_control.get(message.subject)
        if reader is not None and is_no_responders(message.data, message.headers):
            reader.task.cancel()

    async def _on_health(self, message: Msg) -> None:
        if message.reply:
            self._begin(self._send_health(message.reply, message.headers or {}), "health")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"{name}:{self.agent_id}")
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # --- answering ---

    async def _serve(self, message: Msg, reader: _Reader) -> None:
        try:
            end = await self._answer(message.data, message.headers or {}, reader)
        except StreamingQueueError as error:
            end = error_event(error)
        try:
            try:
                await self._send(end, reader)
            except ProtocolError as error:
                reason = f"the answer cannot be sent: {error}"
                await self._send(error_event(ProtocolError(reason, retryable=False)), reader)
        except CommError as error:
            logger.debug("agent %s: an answer was not sent: %s", self.agent_id, error)

    async def _answer(self, body: bytes, headers: Mapping[str, str], reader: _Reader) -> StreamEvent:
        """Send the events before the end, and return the end. Raises the fault of the message."""
        if len(self._readers) > self._limits.connections:
            raise RateLimitedError("the host has too many requests in flight", retry_after_s=1.0)
        if len(body) > self._limits.body_bytes:
            raise ProtocolError(f"the message is over the limit of {self._limits.body_bytes} bytes", retryable=False)
        principal = None if self._admission.open else await self._identify(headers)
        payload = decode_request(body, headers)
        streaming = headers.get(STREAM_HEADER) == STREAM
        context = self._request(payload, principal=principal, streaming=streaming)
        if reader.cancelled and context.call_context.kind != "command":
            raise _cancelled()
        with self._executions.attach(context) as execution:
            reader.execution = execution
            try:
                return await (self._stream if streaming else self._wait)(execution, reader)
            except ProtocolError:
                await self._executions.discard(execution)
                raise

    async def _identify(self, headers: Mapping[str, str]) -> str | None:
        try:
            known = await self._admission.identify(headers.get(CREDENTIAL_HEADER, "").encode("latin-1", "replace"))
        except TimeoutError as error:
            raise AgentFailedError("the host's authenticator did not answer in time") from error
        if isinstance(known, Refusal):
            raise known.error
        return known

    async def _send_health(self, inbox: str, headers: Mapping[str, str]) -> None:
        """Answer every caller; a caller with a wrong credential gets an error."""
        body = encode_health(self.agent_id, ready=self._executions.ready)
        if CREDENTIAL_HEADER in headers and not self._admission.open:
            try:
                await self._identify(headers)
            except StreamingQueueError as error:
                body = encode_event(error_event(error))
        with suppress(CommError):
            await self._link.publish(inbox, body, reply=f"{self._control}.0")

    async def _wait(self, execution: Execution, reader: _Reader) -> StreamEvent:
        end = await execution.ended_within(FIRST_SIGN_S)
        while end is None:
            await self._send(None, reader)
            end = await execution.ended_within(HEARTBEAT_S)
        return end

    async def _stream(self, execution: Execution, reader: _Reader) -> StreamEvent:
        await self._send(None, reader)
        async with aclosing(execution.batches(HEARTBEAT_S)) as batches:
            async for batch in batches:
                for event in batch or (None,):
                    if event is None or event["type"] in (DELTA, STATUS):
                        await self._send(event, reader)
        return await execution.result()

    async def _send(self, event: StreamEvent | None, reader: _Reader) -> None:
        await self._link.publish(reader.inbox, encode_event(event), reply=reader.control)

    async def _cancel(self, reader: _Reader) -> None:
        execution = reader.execution
        if execution is None:
            reader.cancelled = True
        elif execution.done or execution.is_command:
            return
        elif execution.readers == 1:
            await self._executions.discard(execution)
        else:  # other readers wait for the same answer
            reader.task.cancel()
            with suppress(CommError):
                await self._send(error_event(_cancelled()), reader)

    # --- the end ---

    async def drain(self, timeout_s: float) -> None:
        """Leave new messages to other instances, and wait for those in flight, `timeout_s` at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        self._taking = False
        await self._link.leave(self._entries, timeout_s)
        await self._executions.drain(max(0.0, until - loop.time()))
        await self._answered(max(0.0, until - loop.time()))

    async def _stop(self) -> None:
        self._taking = False
        limit_s = self._limits.stop_s
        await asyncio.gather(self._link.leave(self._entries, 0.1 * limit_s), self._executions.aclose(limit_s))
        await self._answered(0.1 * limit_s)
        for task in self._tasks():
            task.cancel()
        await self._link.leave(self._asides, 0.1 * limit_s)
        self._link.remove(self)

    async def _answered(self, timeout_s: float) -> None:
        """Wait until all known ends are sent."""
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=timeout_s)

    def _tasks(self) -> set[asyncio.Task[None]]:
        return self._work.union(reader.task for reader in self._readers.values())


def _cancelled() -> AgentFailedError:
    return AgentFailedError("the request was cancelled")
