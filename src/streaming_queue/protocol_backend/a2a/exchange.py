"""One message, from its first request to its end, whatever becomes of the wire meanwhile.

No message is sent twice, but for one with an idempotency key to a host with our extension, which promises that it
comes back to the same work.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.client.http import is_broken
from streaming_queue.comm.client.liveness import LOOK_TIMEOUT_S, LostReplyError, Watch
from streaming_queue.comm.client.reconnect import Reconnect
from streaming_queue.comm.context import heard
from streaming_queue.errors import CommError, ConnectError, ProtocolError, StreamingQueueError
from streaming_queue.messages import Reply, StreamEvent
from streaming_queue.protocol_backend.a2a.codec import Result, decode_result, encode_message
from streaming_queue.protocol_backend.a2a.dialect import RUNNING, state_name
from streaming_queue.protocol_backend.a2a.failures import UnknownTaskError
from streaming_queue.protocol_backend.a2a.interface import Interface
from streaming_queue.protocol_backend.a2a.progress import Progress

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.a2a.grpc_interface import GrpcInterface

logger = logging.getLogger(__name__)

LOOK_AFTER_S = 12.0
"""How long one of our hosts may take to answer before it is asked whether it is at work."""
SILENT_STREAM_S = 20.0
"""The same for a stream; hosts send a heartbeat every 15 s."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
READ_OUT_S = 0.1
"""How long a stream may take to end when its last event is there."""
RECOVERIES = 5
"""How often in a row a running task may be out of reach before we give it up."""

_ids = (f"{prefix}-{number}" for prefix in [uuid.uuid4().hex] for number in itertools.count(1))


class Exchange:
    """A message (`payload`) and what becomes of it. `streams`: the agent sends its events as they come."""

    def __init__(self, interface: Interface | GrpcInterface, payload: Mapping[str, Any]) -> None:
        """Raises ConfigError on a payload that has no text."""
        card, metadata = interface.card, payload.get("metadata") or {}
        self._interface = interface
        self._message_id = next(_ids)
        self._params = encode_message(payload, self._message_id, card.dialect)
        self._progress = Progress(interface.address)
        self._is_ours = card.call_extension
        self._may_return = self._is_ours and bool(metadata.get("idempotency_key"))
        self._is_command = metadata.get("kind") == "command"
        self.streams = card.streaming

    async def answer(self) -> Reply:
        """The whole answer.

        One of our hosts is asked by one blocking call, which costs least, and watched. Of another the task is known
        from the beginning wherever it has one: by a stream, else because the message says not to wait for the answer.
        """
        if self._is_ours:
            await self._ask(self._params)
        elif self.streams:
            await _drain(self._open_stream())
        else:
            await self._ask({**self._params, "configuration": self._interface.card.dialect.at_once})
        if self._progress.running:
            await _drain(self._resume(subscribe=not self._is_ours and self.streams))
        if self._progress.reply is None:
            raise ProtocolError(f"{self._interface.address}: what came back is part of an answer, not one")
        return self._progress.reply

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """What comes, as it comes, by the streaming method; a break is bridged where a task is known."""
        async with aclosing(self._open_stream()) as events:
            async for event in events:
                yield event
        async with aclosing(self._resume(subscribe=True)) as events:
            async for event in events:
                yield event
        if self._progress.reply is None:
            raise ProtocolError(f"{self._interface.address}: the stream ended without an answer")

    async def _ask(self, params: Mapping[str, Any]) -> None:
        """One call, made again where the message may come back."""
        recovery = Reconnect(keyed=self._may_return, broken=_is_lost)
        while True:
            with recovery:
                result = await self._call(params)
                break
        self._progress.feed(decode_result(result, self._interface.address))

    async def _call(self, params: Mapping[str, Any]) -> Any:
        watching = Watch(self._is_at_work, LOOK_AFTER_S, self._interface.address)
        try:
            return await self._interface.call("send", params, self._message_id, watching)
        finally:
            await watching.aclose()

    async def _open_stream(self) -> AsyncGenerator[StreamEvent, None]:
        """The events of the streaming method, until its stream ends, or breaks when there is a task to go on with."""
        recovery = Reconnect(keyed=True, broken=self._may_go_on)
        while not self._progress.running:
            with recovery:
                async with aclosing(self._listen("stream", self._params, self._message_id)) as results:
                    async for result in results:
                        events = self._progress.feed(result)
                        if self._progress.reply is not None:
                            await _read_out(results)
                        for event in events:
                            yield event
                        if self._progress.reply is not None:
                            return
                return

    def _may_go_on(self, error: BaseException) -> bool:
        """Whether a stream that broke is no loss: its task is known, or the message may come back."""
        return _is_lost(error) and (self._progress.running or self._may_return)

    async def _listen(self, operation: str, params: Mapping[str, Any], request_id: str) -> AsyncGenerator[Result, None]:
        watching = Watch(self._is_at_work, SILENT_STREAM_S, self._interface.address)
        try:
            async with aclosing(self._interface.events(operation, params, request_id, watching)) as results:
                async for result in results:
                    yield result
        finally:
            await watching.aclose()

    async def _is_at_work(self) -> bool | None:
        """Whether the agent is at work on this message; None where it cannot be asked."""
        task_id = self._known_as
        if task_id is None:
            return None
        try:
            task = await self._interface.call("get_task", {"id": task_id}, next(_ids))
        except UnknownTaskError:
            return False
        status = task.get("status") if isinstance(task, Mapping) else None
        return isinstance(status, Mapping) and state_name(status.get("state")) in RUNNING

    @property
    def _known_as(self) -> str | None:
        """The id by which the agent knows the work: the task's, at one of our hosts also the message's."""
        return self._progress.task_id or (self._message_id if self._is_ours else None)

    async def _resume(self, *, subscribe: bool) -> AsyncGenerator[StreamEvent, None]:
        """Follow a running task: by its stream where the peer gives it again, else by asking with growing pauses."""
        pause_s, losses = FIRST_PAUSE_S, 0
        task = {"id": self._progress.task_id}
        while self._progress.running:
            if subscribe:
                subscribe = False
                async with aclosing(self._listen("subscribe", task, next(_ids))) as results:
                    while (result := await self._next(results)) is not None:
                        subscribe, losses = True, 0
                        for event in self._progress.feed(result):
                            yield event
                        if self._progress.reply is not None:
                            return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.6, LONGEST_PAUSE_S)
            try:
                found = await self._get_task()
            except StreamingQueueError as error:
                losses += 1
                if losses == RECOVERIES or not error.retryable or isinstance(error, UnknownTaskError):
                    raise
                pause_s = max(pause_s, error.retry_after_s or 0.0)
                continue
            losses = 0
            for event in self._progress.feed(found):
                yield event

    async def _get_task(self) -> Result:
        """The task as it stands. Raises like `Interface.call`."""
        address, task = self._interface.address, {"id": self._progress.task_id}
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                found = await self._interface.call("get_task", task, next(_ids))
        except TimeoutError as error:
            raise ConnectError(f"{address}: does not tell within {LOOK_TIMEOUT_S:g} s how its task stands") from error
        heard()
        return decode_result({"task": found} if isinstance(found, Mapping) else found, address)

    async def _next(self, results: AsyncGenerator[Result, None]) -> Result | None:
        """The next result of a subscription; None when it ends, breaks or is refused: then the task is asked for."""
        try:
            return await anext(results, None)
        except CommError as error:
            logger.info("%s; asking for the task instead", error)
            return None

    @property
    def cancellable(self) -> bool:
        """Whether the agent knows this work by an id and may be told that nobody waits any more. A command goes on."""
        return self._known_as is not None and not self._is_command and self._progress.reply is None

    async def cancel(self) -> None:
        """Cancel the work at the agent. Raises like `Interface.call`."""
        await self._interface.call("cancel_task", {"id": self._known_as}, next(_ids))


def _is_lost(error: BaseException) -> bool:
    """Whether the connection broke under the message, or the reply to it was lost."""
    return isinstance(error, LostReplyError) or is_broken(error.__cause__)


async def _read_out(results: AsyncGenerator[Result, None]) -> None:
    """Read a stream that has said all to its end, so that its connection can be used again."""
    with suppress(CommError, TimeoutError):
        async with asyncio.timeout(READ_OUT_S):
            async for _ in results:
                pass


async def _drain(events: AsyncGenerator[StreamEvent, None]) -> None:
    async with aclosing(events):
        async for _ in events:
            pass
