"""One agent that is asked: where it is, what every request to it carries, what was agreed with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from multidict import CIMultiDict
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import (
    HttpSession,
    agent_headers,
    agent_url,
    excerpt,
    parse_retry_after,
    peer_date,
    read_body,
    refusal,
    told_error,
)
from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.errors import ProtocolError
from streaming_queue.protocol_backend.agora.envelope import JSON, Response
from streaming_queue.protocol_backend.agora.negotiation import Negotiation

LISTINGS = (".well-known/agora", "wellknown")
"""Where documents are listed: as RFC 8615 would have it, and as Agora's draft has it (9)."""
AGENT_ID_HEADER = "stq-agent-id"
"""In our list's answer, percent-encoded: who answers."""
LISTING_TIMEOUT_S = 5.0
MAX_LISTING_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listing:
    """The documents that an agent lists, sources by hash, None where it has no list; its id and its clock."""

    documents: Mapping[str, Any] | None = None
    agent_id: str | None = None
    date: datetime | None = None


class Peer:
    """An agent, by its address. What the library raises comes out as it is."""

    def __init__(self, agent_id: str, address: str, options: EndpointOptions, session: HttpSession) -> None:
        """Raises ConfigError on an address or a header that cannot be used."""
        self.address = address
        self.negotiation = Negotiation(address)
        self._base = agent_url(agent_id, address)
        self._listings = tuple(self._base.joinpath(*path.split("/")) for path in LISTINGS)
        self._headers: CIMultiDict[str] = agent_headers(agent_id, options, {"Accept": JSON, "Content-Type": JSON})
        self._tls = options.tls
        self._session = session

    async def ask(self, body: bytes) -> Response:
        """Send a request; what came back, read within bounds. Raises ProtocolError when that is too large."""
        async with self._request("POST", self._base, body) as response:
            raw = await read_body(response, self.address)
            return Response(response.status, raw, response.headers.get("Retry-After"))

    def _request(self, method: str, url: URL, body: bytes | None = None) -> Any:
        return self._session.request(method, url, headers=self._headers, tls=self._tls, body=body)

    async def listing(self) -> Listing:
        """What it lists. Raises CommError when it refuses us, or is not able to answer."""
        async with asyncio.timeout(LISTING_TIMEOUT_S):
            for url in self._listings:
                if (found := await self._listing_at(url)) is not None:
                    return found
        return Listing()

    async def _listing_at(self, url: URL) -> Listing | None:
        async with self._request("GET", url) as response:
            raw = await read_body(response, self.address, MAX_LISTING_BYTES)
            document = read_or_none(raw)
            if response.status == 200 and isinstance(document, dict):
                agent_id = response.headers.get(AGENT_ID_HEADER)
                return Listing(document, unquote(agent_id) if agent_id else None, peer_date(response.headers))
            if response.status in (401, 403, 429) or (response.status >= 500 and response.status != 501):
                retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
                told = told_error(document, retry_after_s, self.address)
                raise told or refusal(response.status, raw, retry_after_s, str(url))
            return None

    async def check_takes_posts(self) -> datetime | None:
        """Its clock, if it says that it takes POST (RFC 9110, 9.3.7). Raises ProtocolError if it does not."""
        async with self._request("OPTIONS", self._base) as response:
            raw = await read_body(response, self.address, MAX_LISTING_BYTES)
            allowed = {method.strip().upper() for method in response.headers.get("Allow", "").split(",")}
            if "POST" not in allowed:
                told = "lists no protocol documents, and does not say that it takes POST"
                raise ProtocolError(f"{self.address}: {told}: OPTIONS is answered {response.status}{excerpt(raw)}")
            return peer_date(response.headers)
