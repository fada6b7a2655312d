"""One agent, as its peers ask it: its card, the messages under way, and their cancels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

from streaming_queue.errors import CommError, ConnectError, ProtocolError, RemoteError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.a2a.card import about
from streaming_queue.protocol_backend.a2a.exchange import Exchange
from streaming_queue.protocol_backend.a2a.interface import Interface
from streaming_queue.protocol_backend.a2a.transport import Transport

logger = logging.getLogger(__name__)

CANCEL_TIMEOUT_S = 1.0


class Peer:
    """An agent and its card, which is read once and again after a failure that a new one may mend."""

    def __init__(self, transport: Transport) -> None:
        self.address = transport.address
        self._transport = transport
        self._interface: Interface | None = None
        self._reading: asyncio.Task[Interface] | None = None
        self._cancels: set[asyncio.Task[None]] = set()

    async def interface(self) -> Interface:
        """The interface of the agent's card; all who need it at once read the card once.

        An agent whose card cannot be used is out of reach until it can.

        Raises:
            AuthError: the card is refused to us.
            ConnectError: there is no card, or none that we can use.
        """
        if self._interface is None:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read(), name=f"agent card:{self.address}")
                self._reading.add_done_callback(_noted)
            try:
                self._interface = await asyncio.shield(self._reading)
            except (ProtocolError, RemoteError) as error:
                raise ConnectError(str(error), retry_after_s=error.retry_after_s) from error
        return self._interface

    async def _read(self) -> Interface:
        body, _ = await self._transport.fetch_card()
        return Interface(self._transport, self._transport.card_in(body))

    async def refresh_card(self) -> None:
        """Read the card anew. Raises like `Transport.fetch_card` and `Transport.card_in`."""
        self._interface = await self._read()

    async def describe(self) -> dict[str, Any]:
        """What the card says to people, and the agent's clock, if the interface we would use answers us.

        Raises like `refresh_card` and `Interface.knock`.
        """
        body, date = await self._transport.fetch_card()
        card = self._transport.card_in(body)
        await Interface(self._transport, card).knock()
        facts = about(body, card)
        return facts if date is None else {**facts, "date": date}

    async def send(self, payload: Mapping[str, Any]) -> Reply:
        """Ask for the whole answer. Raises like `interface` and `Exchange.answer`."""
        exchange = Exchange(await self.interface(), payload)
        try:
            return await exchange.answer()
        except asyncio.CancelledError:
            await self._cancel(exchange)
            raise
        except (ConnectError, ProtocolError):
            self._interface = None
            raise

    async def stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        """Ask, and yield what comes as it comes; from an agent that does not stream that is the whole answer."""
        exchange = Exchange(await self.interface(), payload)
        try:
            if not exchange.streams:
                reply = await exchange.answer()
                event: StreamEvent = {"type": MESSAGE, "data": reply["text"]}
                yield {**event, "metadata": reply["metadata"]} if "metadata" in reply else event
                return
            async with aclosing(exchange.events()) as events:
                async for event in events:
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            await self._cancel(exchange)
            raise
        except (ConnectError, ProtocolError):
            self._interface = None
            raise

    async def _cancel(self, exchange: Exchange) -> None:
        """Tell the agent that nobody waits any more; one second at the most."""
        if not exchange.cancellable:
            return
        task = asyncio.create_task(self._cancel_within_bound(exchange), name=f"cancel:{self.address}")
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)

    async def _cancel_within_bound(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await exchange.cancel()
        except (CommError, TimeoutError) as error:
            logger.debug("%s: the work could not be cancelled: %s", self.address, error)

    async def close(self) -> None:
        """Wait for cancels under way and give up reading the card."""
        tasks = {*self._cancels, *((self._reading,) if self._reading else ())}
        if self._reading is not None:
            self._reading.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT_S)


def _noted(task: asyncio.Task[Interface]) -> None:
    """All who waited for the card may have left: then its failure is nobody's."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("%s", error)
