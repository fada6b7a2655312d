"""One agent, asked: an exchange from the message to its end, whatever the task does meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

from streaming_queue.comm.http_client import is_broken
from streaming_queue.errors import CommError, ConnectError, ProtocolError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.a2a.card import Card
from streaming_queue.protocol_backend.a2a.codec import Result, decode_result, encode_message
from streaming_queue.protocol_backend.a2a.progress import Progress
from streaming_queue.protocol_backend.a2a.transport import Transport

logger = logging.getLogger(__name__)

CANCEL_TIMEOUT_S = 1.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
RECOVERIES = 5
"""How often in a row a running task may be out of reach before we give it up."""

_message_ids = (f"{prefix}-{number}" for prefix in [uuid.uuid4().hex] for number in itertools.count(1))


class Peer:
    """An agent and its card, which is read once and again after a failure that a new one may mend."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._card: Card | None = None
        self._reading: asyncio.Task[Card] | None = None
        self._cancels: set[asyncio.Task[None]] = set()

    async def card(self) -> Card:
        """The agent's card; all who need it at once read it once. Raises like `Transport.read_card`."""
        if self._card is None:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(
                    self.transport.read_card(), name=f"agent card:{self.transport.address}"
                )
                self._reading.add_done_callback(_noted)
            self._card = await asyncio.shield(self._reading)
        return self._card

    async def refresh_card(self) -> None:
        """Read the card anew. Raises like `Transport.read_card`."""
        self._card = await self.transport.read_card()

    async def send(self, payload: Mapping[str, Any]) -> Reply:
        """Ask, and follow the task to its end where the answer is one."""
        card = await self.card()
        progress = Progress(self.transport.address)
        message_id = next(_message_ids)
        params = encode_message(payload, message_id, card.dialect)
        try:
            result = await self._ask(card, params, message_id)
            progress.feed(decode_result(result, self.transport.address))
            if progress.running:
                async with aclosing(self._resume(card, progress, subscribe=False)) as events:
                    async for _ in events:
                        pass
        except asyncio.CancelledError:
            await self._cancel(card, progress, message_id, payload)
            raise
        except (ConnectError, ProtocolError):
            self._card = None
            raise
        if progress.reply is None:
            raise ProtocolError(f"{self.transport.address}: what came back is part of an answer, not one")
        return progress.reply

    async def _ask(self, card: Card, params: Mapping[str, Any], message_id: str) -> Any:
        """One call; asked again, once, where the connection broke and the message comes back to the work under way.

        That is what our extension promises for a message with an idempotency key; no other message is sent twice.
        """
        try:
            return await self.transport.call(card, "send", params, message_id)
        except ConnectError as error:
            cause = error.__cause__
            begun = is_broken(cause)
            if not (begun and card.call_extension and params["message"].get("metadata", {}).get("idempotency_key")):
                raise
            return await self.transport.call(card, "send", params, message_id)

    async def stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        """Ask, and yield what comes as it comes; a break is bridged where a task is known, the message never resent."""
        card = await self.card()
        if not card.streaming:
            reply = await self.send(payload)
            event: StreamEvent = {"type": MESSAGE, "data": reply["text"]}
            yield {**event, "metadata": reply["metadata"]} if "metadata" in reply else event
            return
        progress = Progress(self.transport.address)
        message_id = next(_message_ids)
        params = encode_message(payload, message_id, card.dialect)
        try:
            async with aclosing(self._follow(card, progress, params, message_id)) as events:
                async for event in events:
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            if progress.reply is None:
                await self._cancel(card, progress, message_id, payload)
            raise
        except (ConnectError, ProtocolError):
            self._card = None
            raise
        if progress.reply is None:
            raise ProtocolError(f"{self.transport.address}: the stream ended without an answer")

    async def _follow(
        self, card: Card, progress: Progress, params: Mapping[str, Any], message_id: str
    ) -> AsyncGenerator[StreamEvent, None]:
        """The events of one streamed exchange, from its first request to the end of its task."""
        try:
            async with aclosing(self.transport.events(card, "stream", params, message_id)) as results:
                async for result in results:
                    for event in progress.feed(result):
                        yield event
                    if progress.reply is not None:
                        return
        except ConnectError:
            if not progress.running:
                raise
        async with aclosing(self._resume(card, progress, subscribe=True)) as events:
            async for event in events:
                yield event

    async def _resume(self, card: Card, progress: Progress, *, subscribe: bool) -> AsyncGenerator[StreamEvent, None]:
        """Follow a running task: by its stream where the peer gives it again, else by asking with growing pauses."""
        pause_s, losses = FIRST_PAUSE_S, 0
        while progress.running:
            task = {"id": progress.task_id}
            if subscribe:
                subscribe = False
                async with aclosing(self.transport.events(card, "subscribe", task, next(_message_ids))) as results:
                    while (result := await self._next(results)) is not None:
                        subscribe, losses = True, 0
                        for event in progress.feed(result):
                            yield event
                        if progress.reply is not None:
                            return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.6, LONGEST_PAUSE_S)
            try:
                found = await self.transport.call(card, "get_task", task, next(_message_ids))
            except ConnectError:
                losses += 1
                if losses == RECOVERIES:
                    raise
                continue
            losses = 0
            kind = {"task": found} if isinstance(found, Mapping) else found
            for event in progress.feed(decode_result(kind, self.transport.address)):
                yield event

    async def _next(self, results: AsyncGenerator[Result, None]) -> Result | None:
        """The next result of a subscription; None when it ends, breaks or is refused: then the task is asked for."""
        try:
            return await anext(results, None)
        except CommError as error:
            logger.info("%s; asking for the task instead", error)
            return None

    async def _cancel(self, card: Card, progress: Progress, message_id: str, payload: Mapping[str, Any]) -> None:
        """Tell the agent that nobody waits any more; one second at the most. A command goes on."""
        target = progress.task_id or (message_id if card.call_extension else None)
        if target is None or (payload.get("metadata") or {}).get("kind") == "command":
            return
        task = asyncio.create_task(self._cancel_task(card, target), name=f"cancel:{self.transport.address}")
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)

    async def _cancel_task(self, card: Card, task_id: str) -> None:
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await self.transport.call(card, "cancel_task", {"id": task_id}, next(_message_ids))
        except (CommError, TimeoutError) as error:
            logger.debug("%s: task %s could not be cancelled: %s", self.transport.address, task_id, error)

    async def close(self) -> None:
        """Wait for cancels under way and give up reading the card."""
        tasks = {*self._cancels, *((self._reading,) if self._reading else ())}
        if self._reading is not None:
            self._reading.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT_S)


def _noted(task: asyncio.Task[Card]) -> None:
    """All who waited for the card may have left: then its failure is nobody's."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("%s", error)
