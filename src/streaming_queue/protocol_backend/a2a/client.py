"""One remote agent: its address, its card, and the interface from its card."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import HttpPeer, HttpSession, peer_date, read_body
from streaming_queue.comm.client.once import Once
from streaming_queue.comm.grpc_wire import load_part
from streaming_queue.errors import (
    BackendClosedError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RemoteError,
    UnavailableError,
)
from streaming_queue.protocol_backend.a2a.card import GRPC, JSONRPC, MAX_CARD_BYTES, Card, about, read_card
from streaming_queue.protocol_backend.a2a.dialect import CARD_PATH, GRPC_SETTINGS
from streaming_queue.protocol_backend.a2a.failures import http_error
from streaming_queue.protocol_backend.a2a.interface import Interface

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.a2a.grpc_interface import GrpcInterface

    AnyInterface = Interface | GrpcInterface
else:
    AnyInterface = Any

logger = logging.getLogger(__name__)


class Peer(HttpPeer):
    """An agent and its card. We read the card once, and again after a failure that a new card may solve.

    `binding` is the preferred binding. The credential and the extra headers go to the address's own origin only.
    """

    def __init__(
        self,
        agent_id: str,
        address: str,
        options: EndpointOptions,
        session: HttpSession,
        *,
        trusted_origins: Collection[URL],
        binding: str,
    ) -> None:
        super().__init__(agent_id, address, options, session)
        self._own = (agent_id, address, options, session)
        self._foreign = (agent_id, address, EndpointOptions(tls=options.tls), session)
        self._card_url = self.url if self.url.path.endswith(".json") else URL(f"{str(self.url).rstrip('/')}{CARD_PATH}")
        self._trusted_origins = trusted_origins
        self._binding = binding
        self._interface: Once[AnyInterface] = Once(self._read, f"agent card:{address}")
        self._grpc: GrpcInterface | None = None
        self._choosing = asyncio.Lock()
        self._said = ""

    async def interface(self) -> AnyInterface:
        """The interface of the agent's card; concurrent callers read the card once.

        An agent without a usable card cannot be reached.

        Raises:
            AuthError: the agent refuses to give us the card.
            ConnectError: there is no usable card.
        """
        return self._interface.value or await self._interface.get()

    def forget(self) -> None:
        """Read the card again for the next message."""
        self._interface.value = None

    async def _read(self) -> AnyInterface:
        try:
            body, _ = await self._fetch_card()
            return await self._choose(body)
        except (ProtocolError, RemoteError) as error:
            raise UnavailableError(str(error), retry_after_s=error.retry_after_s) from error

    async def _fetch_card(self) -> tuple[bytes, datetime | None]:
        """The body of the agent's card, and the agent's clock. Raises CommError: unreachable, refused, no card."""
        where = str(self._card_url)
        with self.translated:
            async with self.request("GET", self._card_url) as response:
                body = await read_body(response, where, MAX_CARD_BYTES)
        if response.status == 404:
            raise ProtocolError(f"{where}: no agent card")
        if response.status != 200:
            raise http_error(response.status, body, response.headers.get("Retry-After"), where)
        return body, peer_date(response.headers)

    def _card_in(self, body: bytes, binding: str) -> Card:
        return read_card(body, self._card_url, self._trusted_origins, binding)

    async def _choose(self, body: bytes) -> AnyInterface:
        """The preferred interface of the card in `body`, else the next; log the reason once."""
        wanted = self._binding
        card = self._card_in(body, wanted)
        reason = "the card has no interface of that binding that we may use"
        if card.binding == GRPC:
            try:
                async with self._choosing:
                    return await self._by_grpc(card)
            except (ConfigError, ConnectError) as error:
                reason = str(error)
                try:
                    card = self._card_in(body, JSONRPC)
                except ProtocolError:
                    raise error from None
        if wanted not in (JSONRPC, card.binding) and reason != self._said:
            self._said = reason
            logger.warning("%s: using %s instead of %s: %s", self.address, card.binding, wanted, reason)
        return Interface(card, *(self._own if card.own_origin else self._foreign))

    async def _by_grpc(self, card: Card) -> GrpcInterface:
        """The interface with a connection. Raises BackendNotInstalledError, ConfigError and ConnectError."""
        old = self._grpc
        if old is not None:
            if old.card == card and old.ready:
                return old
            self._grpc = None
            await old.close()
        part = await load_part("streaming_queue.protocol_backend.a2a.grpc_interface", GRPC_SETTINGS)
        interface: GrpcInterface = part.GrpcInterface(card, *(self._own if card.own_origin else self._foreign))
        try:
            await interface.connect()
        except BaseException:
            await interface.close()
            raise
        self._grpc, self._said = interface, ""
        return interface

    async def refresh_card(self) -> None:
        """Read the card again. Raises CommError: unreachable, refused, or no usable card.

        Keep a gRPC interface if the card still has it; else create it when it is needed.
        """
        body, _ = await self._fetch_card()
        card = self._card_in(body, self._binding)
        known = self._interface.value
        if card.binding != GRPC:
            self._interface.value = await self._choose(body)
        elif known is not None and known.card.binding == GRPC and known.card != card:
            self.forget()

    async def describe(self) -> dict[str, Any]:
        """The facts of the card for people, and the agent's clock, if the chosen interface answers.

        Raises like `refresh_card` and `Interface.check_auth`.
        """
        body, date = await self._fetch_card()
        interface = await self._choose(body)
        await interface.check_auth()
        facts = about(body, interface.card)
        return facts if date is None else {**facts, "date": date}

    async def close(self) -> None:
        """Stop reading the card, and close the gRPC connection."""
        await self._interface.aclose(BackendClosedError(f"{self.address}: the a2a backend was closed"))
        if self._grpc is not None:
            await self._grpc.close()
