"""One remote agent: its address, its documents, the negotiation with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import aiohttp
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import HttpPeer, HttpSession, peer_date, read_body, response_error
from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.comm.wire_errors import excerpt
from streaming_queue.errors import ProtocolError
from streaming_queue.protocol_backend.agora.negotiation import Negotiation, Stage

LISTINGS = (".well-known/agora", "wellknown")
"""The paths of the list of documents: by RFC 8615, and by Agora's draft (9)."""
AGENT_ID_HEADER = "stq-agent-id"
"""The header of our list with the agent's id, percent-encoded."""
LISTING_TIMEOUT_S = 5.0
MAX_LISTING_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listing:
    """The documents of an agent (sources by hash; None without a list), its id and its clock."""

    documents: Mapping[str, Any] | None = None
    agent_id: str | None = None
    date: datetime | None = None


class Peer(HttpPeer):
    """An agent, by its address. Its methods raise the library's errors unchanged."""

    def __init__(self, agent_id: str, address: str, options: EndpointOptions, session: HttpSession) -> None:
        """Raises ConfigError on an address or a header that is not valid."""
        super().__init__(agent_id, address, options, session)
        self.negotiation = Negotiation(address)

    async def ask(self, body: bytes) -> tuple[aiohttp.ClientResponse, bytes]:
        """Send a request; returns the response and its body. Raises ProtocolError if the body is too large."""
        async with self.request("POST", self.url, body) as response:
            return response, await read_body(response, self.address)

    async def meet(self) -> None:
        """Read the agent's list of documents, unless the negotiation has a result. Raises like `listing`."""
        if self.negotiation.stage is Stage.UNKNOWN:
            self.negotiation.met((await self.listing()).documents)

    async def listing(self) -> Listing:
        """The agent's list. Raises CommError if the agent refuses us, or cannot answer."""
        async with asyncio.timeout(LISTING_TIMEOUT_S):
            for path in LISTINGS:
                if (found := await self._listing_at(self.url.joinpath(*path.split("/")))) is not None:
                    return found
        return Listing()

    async def _listing_at(self, url: URL) -> Listing | None:
        async with self.request("GET", url) as response:
            raw = await read_body(response, self.address, MAX_LISTING_BYTES)
            document = read_or_none(raw)
            if response.status == 200 and isinstance(document, dict):
                agent_id = response.headers.get(AGENT_ID_HEADER)
                return Listing(document, unquote(agent_id) if agent_id else None, peer_date(response.headers))
            if response.status in (401, 403, 429) or (response.status >= 500 and response.status != 501):
                raise response_error(response, raw, str(url))
            return None

    async def check_takes_posts(self) -> datetime | None:
        """The agent's clock, if it reports that it takes POST (RFC 9110, 9.3.7); else raises ProtocolError."""
        async with self.request("OPTIONS", self.url) as response:
            raw = await read_body(response, self.address, MAX_LISTING_BYTES)
            allowed = {method.strip().upper() for method in response.headers.get("Allow", "").split(",")}
            if "POST" not in allowed:
                reason = "lists no protocol documents, and does not report that it takes POST"
                raise ProtocolError(f"{self.address}: {reason}: OPTIONS answered {response.status}{excerpt(raw)}")
            return peer_date(response.headers)
