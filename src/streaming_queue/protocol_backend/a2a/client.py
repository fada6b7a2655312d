"""One agent, as its peers ask it: its card, the messages under way, and their cancels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.client.cancels import CANCEL_TIMEOUT_S, Cancels
from streaming_queue.comm.grpc_wire import load_part
from streaming_queue.errors import ConfigError, ConnectError, ProtocolError, RemoteError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.a2a.card import GRPC, JSONRPC, about
from streaming_queue.protocol_backend.a2a.dialect import GRPC_SETTINGS
from streaming_queue.protocol_backend.a2a.exchange import Exchange
from streaming_queue.protocol_backend.a2a.interface import Interface
from streaming_queue.protocol_backend.a2a.transport import Transport

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.a2a.card import Card
    from streaming_queue.protocol_backend.a2a.grpc_interface import GrpcInterface

logger = logging.getLogger(__name__)


class Peer:
    """An agent and its card, which is read once and again after a failure that a new one may mend."""

    def __init__(self, transport: Transport, cancels: Cancels) -> None:
        self.address = transport.address
        self._transport = transport
        self._interface: Interface | GrpcInterface | None = None
        self._reading: asyncio.Task[Interface | GrpcInterface] | None = None
        self._grpc: GrpcInterface | None = None
        self._choosing = asyncio.Lock()
        self._said = ""
        self._cancels = cancels

    async def interface(self) -> Interface | GrpcInterface:
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

    async def _read(self) -> Interface | GrpcInterface:
        body, _ = await self._transport.fetch_card()
        return await self._choose(body)

    async def _choose(self, body: bytes) -> Interface | GrpcInterface:
        """The preferred interface of the card in `body`, else the next; why it is the next is logged once."""
        wanted = self._transport.binding
        card = self._transport.card_in(body)
        reason = "the card offers none that we may use"
        if card.binding == GRPC:
            try:
                async with self._choosing:
                    return await self._by_grpc(card)
            except (ConfigError, ConnectError) as error:
                reason = str(error)
                try:
                    card = self._transport.card_in(body, JSONRPC)
                except ProtocolError:
                    raise error from None
        if wanted not in (JSONRPC, card.binding) and reason != self._said:
            self._said = reason
            logger.warning("%s: asked by %s and not by %s: %s", self.address, card.binding, wanted, reason)
        return Interface(self._transport, card)

    async def _by_grpc(self, card: Card) -> GrpcInterface:
        """The interface with a connection. Raises BackendNotInstalledError, ConfigError and ConnectError."""
        old = self._grpc
        if old is not None:
            if old.card == card and old.ready:
                return old
            self._grpc = None
            await old.close()
        part = await load_part("streaming_queue.protocol_backend.a2a.grpc_interface", GRPC_SETTINGS)
        interface: GrpcInterface = part.GrpcInterface(self._transport, card)
        try:
            await interface.connect()
        except BaseException:
            await interface.close()
            raise
        self._grpc, self._said = interface, ""
        return interface

    async def refresh_card(self) -> None:
        """Read the card anew. Raises like `Transport.fetch_card` and `Transport.card_in`.

        An interface by gRPC is kept where the card still has it, else made when it is needed.
        """
        body, _ = await self._transport.fetch_card()
        card = self._transport.card_in(body)
        if card.binding != GRPC:
            self._interface = await self._choose(body)
        elif self._interface is not None and self._interface.card.binding == GRPC and self._interface.card != card:
            self._interface = None

    async def describe(self) -> dict[str, Any]:
        """What the card says to people, and the agent's clock, if the interface we would use answers us.

        Raises like `refresh_card` and `Interface.check_auth`.
        """
        body, date = await self._transport.fetch_card()
        interface = await self._choose(body)
        await interface.check_auth()
        facts = about(body, interface.card)
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
        if exchange.cancellable:
            await self._cancels.tell(self.address, exchange.cancel)

    async def close(self) -> None:
        """Give up reading the card, and the connection by gRPC."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading}, timeout=CANCEL_TIMEOUT_S)
        if self._grpc is not None:
            await self._grpc.close()


def _noted(task: asyncio.Task[Interface | GrpcInterface]) -> None:
    """All who waited for the card may have left: then its failure is nobody's."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("%s", error)
