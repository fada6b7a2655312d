"""HTTP to one agent: its address, its credential, its card."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import HttpSession, agent_headers, agent_url, peer_date, read_body
from streaming_queue.comm.client.liveness import Watch
from streaming_queue.comm.grpc_wire import call_metadata
from streaming_queue.errors import CommError, ProtocolError
from streaming_queue.protocol_backend.a2a.card import MAX_CARD_BYTES, Card, read_card
from streaming_queue.protocol_backend.a2a.dialect import CARD_PATH
from streaming_queue.protocol_backend.a2a.failures import http_error


class Transport:
    """One agent, as its address and options say. `address` stands in every error, `binding` is the preferred one.

    The credential and the extra headers go to the address's own origin only.
    """

    def __init__(
        self,
        agent_id: str,
        address: str,
        options: EndpointOptions,
        *,
        trusted_origins: Collection[URL],
        binding: str,
        session: HttpSession,
    ) -> None:
        self.address = address
        self.translated = session.translated(address)
        self.binding = binding
        self._agent_id = agent_id
        self._options = options
        url = agent_url(agent_id, address)
        self._card_url = url if url.path.endswith(".json") else URL(f"{str(url).rstrip('/')}{CARD_PATH}")
        self._headers = agent_headers(agent_id, options, {})
        self._foreign_headers = agent_headers(agent_id, EndpointOptions(), {})
        self._trusted_origins = trusted_origins
        self._session = session

    def headers(self, more: Mapping[str, str], *, own_origin: bool) -> CIMultiDict[str]:
        """What a request carries to the agent's own origin, or to another: `more`, and there what its options say."""
        headers = (self._headers if own_origin else self._foreign_headers).copy()
        headers.update(more)
        return headers

    def call_metadata(self, *, own_origin: bool) -> tuple[tuple[str, str], ...]:
        """What a call by gRPC carries. Raises ConfigError on a header that cannot be sent."""
        return call_metadata(self._agent_id, self._options if own_origin else EndpointOptions())

    @property
    def has_own_tls(self) -> bool:
        """Whether the agent's options say whom to trust."""
        return self._options.tls is not None

    async def request(
        self, method: str, url: URL, headers: CIMultiDict[str], body: bytes | None = None, watch: Watch | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request and await its response, to be read within `async with`. Raises CommError."""
        with self.translated:
            opening = self._session.request(method, url, headers=headers, tls=self._options.tls, body=body)
            return await (opening if watch is None else watch.response(opening))

    def failure(self, error: Exception) -> CommError:
        """A connection that failed, as one of our errors."""
        return self._session.failure(error, self.address)

    async def fetch_card(self) -> tuple[bytes, datetime | None]:
        """The body of the agent's card, and the agent's clock. Raises CommError: unreachable, refused, no card."""
        where = str(self._card_url)
        headers = self.headers({"Accept": "application/json"}, own_origin=True)
        async with await self.request("GET", self._card_url, headers) as response:
            with self.translated:
                body = await read_body(response, where, MAX_CARD_BYTES)
            if response.status == 404:
                raise ProtocolError(f"{where}: there is no agent card")
            if response.status != 200:
                raise http_error(response.status, body, response.headers.get("Retry-After"), where)
            return body, peer_date(response.headers)

    def card_in(self, body: bytes, binding: str | None = None) -> Card:
        """The card in a body, with its interface of the binding (default: the preferred one) where it can be used.

        Raises ProtocolError when it is none, or none that we can use.
        """
        return read_card(body, self._card_url, self._trusted_origins, binding or self.binding)
