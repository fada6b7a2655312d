"""One message, from its first request to its end; it survives broken connections and long silence.

A message is sent twice only with an idempotency key, to a host with our extension: the host promises that the second
message leads to the same work.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from streaming_queue.comm.client.exchange import Cancels, Exchange
from streaming_queue.comm.client.http import is_broken
from streaming_queue.comm.client.lines import read_out
from streaming_queue.comm.client.liveness import LOOK_TIMEOUT_S, LostReplyError, Watch
from streaming_queue.comm.context import heard
from streaming_queue.errors import CommError, ConnectError, ProtocolError, StreamingQueueError
from streaming_queue.messages import Reply, StreamEvent, answer_event
from streaming_queue.protocol_backend.a2a.client import AnyInterface, Peer
from streaming_queue.protocol_backend.a2a.codec import Result, decode_result, encode_message
from streaming_queue.protocol_backend.a2a.dialect import RUNNING, state_name
from streaming_queue.protocol_backend.a2a.failures import UnknownTaskError
from streaming_queue.protocol_backend.a2a.progress import Progress

logger = logging.getLogger(__name__)

LOOK_AFTER_S = 12.0
"""After this time without an answer, in seconds, we ask one of our hosts whether it still works."""
SILENT_STREAM_S = 20.0
"""The same time for a stream; hosts send a heartbeat every 15 s."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
RECOVERIES = 5
"""We give a running task up if it cannot be reached more often than this in a row."""

_ids = (f"{prefix}-{number}" for prefix in [uuid.uuid4().hex] for number in itertools.count(1))


class A2AExchange(Exchange):
    """A message (`payload`) and its task, if it becomes one. Raises ConfigError on a payload without text.

    For a whole answer, we send one of our hosts one blocking call and watch it. From another agent we get the task at
    the beginning: by a stream, else because the message asks the agent not to wait for the answer.
    """

    replays = False  # `Progress` yields new events only

    def __init__(self, peer: Peer, payload: Mapping[str, Any], cancels: Cancels) -> None:
        super().__init__(peer.address, payload, cancels)
        self._peer = peer
        self._message_id = next(_ids)
        self._progress = Progress(peer.address)
        self._interface: AnyInterface | None = None
        self._following = False

    async def ask(self) -> Reply:
        """The whole answer as the peer wrote it; one blocking call to one of our hosts needs the least CPU."""
        interface = await self._open()
        if interface.card.call_extension and not self._progress.running:
            await self._ask(interface)
        if self._progress.reply is None:
            async with aclosing(self.events()) as events:
                async for _ in events:
                    pass
        if self._progress.reply is None:
            raise ProtocolError(f"{self.address}: the result is only a part of an answer")
        return self._progress.reply

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The events of the answer as they arrive; one whole answer from an agent that does not stream."""
        interface = await self._open()
        card, progress = interface.card, self._progress
        follows = card.streaming and (self.streaming or not card.call_extension)
        if not progress.running:
            if not follows:
                await self._ask(interface)
            else:
                params = encode_message(self.payload, self._message_id, card.dialect)
                async with aclosing(self._listen(interface, "stream", params, self._message_id)) as results:
                    async for result in results:
                        for event in progress.feed(result):
                            if progress.reply is not None:
                                await read_out(results)
                            yield event
        if progress.running:
            self._following = self.accepted = True
            async with aclosing(self._follow(interface, subscribe=follows)) as events:
                async for event in events:
                    if follows:
                        yield event
        if not follows and progress.reply is not None:
            yield answer_event(progress.reply)

    def resumes(self, error: Exception) -> bool:
        """Whether the work can be found again: by its known task, not followed yet, or by repeating the message."""
        if isinstance(error, ConnectError | ProtocolError):
            self._peer.forget()  # a new card may help
        lost = isinstance(error, LostReplyError) or is_broken(error.__cause__)
        returns = self.key is not None and self._interface is not None and self._interface.card.call_extension
        return lost and not self._following and (self._progress.running or returns)

    async def _open(self) -> AnyInterface:
        if self._interface is None:
            self._interface = await self._peer.interface()
        return self._interface

    async def _ask(self, interface: AnyInterface) -> None:
        """Send the message by one call; a host of ours responds with the whole answer."""
        params = encode_message(self.payload, self._message_id, interface.card.dialect)
        if not interface.card.call_extension:
            params["configuration"] = interface.card.dialect.at_once
        watch = Watch(self._is_at_work, LOOK_AFTER_S, self.address)
        try:
            answer = await interface.call("send", params, self._message_id, watch)
        finally:
            await watch.aclose()
        self._progress.feed(decode_result(answer, self.address))

    async def _listen(
        self, interface: AnyInterface, operation: str, params: Mapping[str, Any], request_id: str
    ) -> AsyncGenerator[Result, None]:
        async with (
            aclosing(Watch(self._is_at_work, SILENT_STREAM_S, self.address)) as watch,
            aclosing(interface.events(operation, params, request_id, watch)) as results,
        ):
            async for result in results:
                yield result

    async def _is_at_work(self) -> bool | None:
        """Whether the agent works on this message; None if we cannot ask it."""
        if self._known_as is None:
            return None
        try:
            task = await self._call("get_task", self._known_as)
        except UnknownTaskError:
            return False
        status = task.get("status") if isinstance(task, Mapping) else None
        return isinstance(status, Mapping) and state_name(status.get("state")) in RUNNING

    @property
    def _known_as(self) -> str | None:
        """The id of the work at the agent: the task's; at one of our hosts also the message's."""
        ours = self._interface is not None and self._interface.card.call_extension
        return self._progress.task_id or (self._message_id if ours else None)

    async def _call(self, operation: str, task_id: str | None) -> Any:
        interface = await self._open()
        return await interface.call(operation, {"id": task_id}, next(_ids))

    async def _follow(self, interface: AnyInterface, *, subscribe: bool) -> AsyncGenerator[StreamEvent, None]:
        """Follow a running task: by its stream if the peer offers it again, else by polling with growing pauses."""
        pause_s, losses = FIRST_PAUSE_S, 0
        while self._progress.running:
            if subscribe:
                subscribe = False
                task = {"id": self._progress.task_id}
                async with aclosing(self._listen(interface, "subscribe", task, next(_ids))) as results:
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
        """The current task. Raises like `Interface.call`."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                found = await self._call("get_task", self._progress.task_id)
        except TimeoutError as error:
            said = f"{self.address}: no state of its task within {LOOK_TIMEOUT_S:g} s"
            raise ConnectError(said) from error
        heard()
        return decode_result({"task": found} if isinstance(found, Mapping) else found, self.address)

    async def _next(self, results: AsyncGenerator[Result, None]) -> Result | None:
        """The next result of a subscription; None if the subscription ends, breaks or is refused: then we poll."""
        try:
            return await anext(results, None)
        except CommError as error:
            logger.info("%s; polling the task instead", error)
            return None

    @property
    def cancellable(self) -> bool:
        """Whether the agent knows this work by an id, and still works on it."""
        return self._known_as is not None and self._progress.reply is None

    async def cancel(self) -> None:
        """Cancel the work at the agent."""
        await self._call("cancel_task", self._known_as)
