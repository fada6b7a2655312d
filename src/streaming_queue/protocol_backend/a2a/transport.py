"""Calls to one agent over either binding, JSON-RPC or HTTP+JSON; the agent's card says which."""

from __future__ import annotations

import io
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.http_client import agent_headers, agent_url, peer_date, read_body, translate
from streaming_queue.errors import BackendClosedError, ProtocolError, StreamingQueueError
from streaming_queue.protocol_backend.a2a.card import JSONRPC, MAX_CARD_BYTES, Card, about, read_card
from streaming_queue.protocol_backend.a2a.codec import Result, decode_object, decode_result, decode_rpc, encode_json
from streaming_queue.protocol_backend.a2a.dialect import (
    A2A_JSON,
    CALL_EXTENSION,
    CARD_PATH,
    EXTENSIONS_HEADER,
    VERSION_HEADER,
)
from streaming_queue.protocol_backend.a2a.failures import http_error, parsed, rpc_error
from streaming_queue.protocol_backend.a2a.sse import EVENT_STREAM, read_events

_BYTES_AT_ONCE = 1024 * 1024
_JSON = f"{A2A_JSON}, application/json"

REST_PATHS: Mapping[str, tuple[str, str]] = {
    "send": ("POST", "/message:send"),
    "stream": ("POST", "/message:stream"),
    "get_task": ("GET", "/tasks/{id}"),
    "cancel_task": ("POST", "/tasks/{id}:cancel"),
    "subscribe": ("POST", "/tasks/{id}:subscribe"),
}
"""Operation (a field of `Dialect`) -> method and path in HTTP+JSON (specification 1.0, section 11)."""


class Transport:
    """One agent, as its address and options say. `address` stands in every error.

    The credential and the extra headers go to the address's own origin only.
    """

    def __init__(
        self,
        agent_id: str,
        address: str,
        options: EndpointOptions,
        *,
        trusted_origins: Collection[URL],
        session: Callable[[], aiohttp.ClientSession],
    ) -> None:
        self.address = address
        url = agent_url(agent_id, address)
        self._card_url = url if url.path.endswith(".json") else URL(f"{str(url).rstrip('/')}{CARD_PATH}")
        self._headers = agent_headers(agent_id, options, {})
        self._foreign_headers = agent_headers(agent_id, EndpointOptions(), {})
        self._ssl: Any = options.tls or True
        self._trusted_origins = trusted_origins
        self._session = session

    @asynccontextmanager
    async def _request(
        self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str], *, own_origin: bool = True
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        merged = (self._headers if own_origin else self._foreign_headers).copy()
        merged.update(headers)
        session = self._session()
        data = io.BytesIO(body) if body is not None and len(body) > _BYTES_AT_ONCE else body
        try:
            async with session.request(
                method, url, data=data, headers=merged, ssl=self._ssl, allow_redirects=False
            ) as response:
                yield response
        except StreamingQueueError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            if session.closed:
                raise BackendClosedError(f"{self.address}: the a2a backend was closed before the answer") from error
            raise translate(error, self.address) from error

    async def read_card(self) -> Card:
        """The agent's card. Raises CommError: unreachable, refused, no card, or none that we can use."""
        body, _ = await self._fetch_card()
        return read_card(body, self._card_url, self._trusted_origins)

    async def describe(self) -> dict[str, Any]:
        """What the card says to people, and the agent's clock, if the interface we would use answers us.

        Raises like `read_card`.
        """
        body, date = await self._fetch_card()
        card = read_card(body, self._card_url, self._trusted_origins)
        await self._knock(card)
        facts = about(body, card)
        return facts if date is None else {**facts, "date": date}

    async def _knock(self, card: Card) -> None:
        """Ask for a task that does not exist: whoever reads the card may still be refused behind it.

        Any answer of A2A will do; what is none is raised, as by `call`.
        """
        nothing = uuid.uuid4().hex
        async with self._open(card, "get_task", {"id": nothing}, nothing, accept=_JSON) as response:
            body = await read_body(response, self.address, MAX_CARD_BYTES)
            if response.status == 200:
                decode_object(body, self.address)
            elif response.status in (401, 403) or not isinstance(parsed(body).get("error"), Mapping):
                raise http_error(response.status, body, response.headers.get("Retry-After"), str(card.url))

    async def _fetch_card(self) -> tuple[bytes, datetime | None]:
        async with self._request("GET", self._card_url, None, {"Accept": "application/json"}) as response:
            body = await read_body(response, str(self._card_url), MAX_CARD_BYTES)
            if response.status == 404:
                raise ProtocolError(f"{self._card_url}: there is no agent card", retryable=False)
            if response.status != 200:
                raise http_error(response.status, body, response.headers.get("Retry-After"), str(self._card_url))
            return body, peer_date(response.headers)

    @asynccontextmanager
    async def _open(
        self, card: Card, operation: str, params: Mapping[str, Any], request_id: str, *, accept: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {VERSION_HEADER: card.dialect.version, "Accept": accept}
        if card.call_extension:
            headers[EXTENSIONS_HEADER] = CALL_EXTENSION
        if card.binding == JSONRPC:
            method, url = "POST", card.url
            tenant = {"tenant": card.tenant} if card.tenant else {}
            body: bytes | None = encode_json(
                {
                    "jsonrpc": "2.0",
                    "id": request_id,
                    "method": getattr(card.dialect, operation),
                    "params": {**tenant, **params},
                }
            )
        else:
            method, path = REST_PATHS[operation]
            task_id = params.get("id")
            filled = path.format(id=quote(str(task_id), safe="")) if task_id is not None else path
            tenant_path = f"/{quote(card.tenant, safe='')}" if card.tenant else ""
            url = URL(f"{str(card.url).rstrip('/')}{tenant_path}{filled}", encoded=True)
            rest = {key: value for key, value in params.items() if key != "id"}
            body = None if method == "GET" else encode_json(rest)
        if body is not None:
            headers["Content-Type"] = "application/json"
        async with self._request(method, url, body, headers, own_origin=card.own_origin) as response:
            yield response

    async def call(self, card: Card, operation: str, params: Mapping[str, Any], request_id: str) -> Any:
        """One call, one result. Raises what the peer's error means, ProtocolError when it is no answer of A2A."""
        async with self._open(card, operation, params, request_id, accept=_JSON) as response:
            return await self._whole(card, response, request_id)

    async def _whole(self, card: Card, response: aiohttp.ClientResponse, request_id: str) -> Any:
        body = await read_body(response, self.address)
        if response.status != 200:
            raise http_error(response.status, body, response.headers.get("Retry-After"), self.address)
        if card.binding == JSONRPC:
            return decode_rpc(body, request_id, self.address)
        return decode_object(body, self.address)

    async def events(
        self, card: Card, operation: str, params: Mapping[str, Any], request_id: str
    ) -> AsyncGenerator[Result, None]:
        """One call, what the peer sends of its result until it ends the stream. Raises like `call`."""
        async with self._open(card, operation, params, request_id, accept=f"{EVENT_STREAM}, {_JSON}") as response:
            if response.status != 200 or response.content_type != EVENT_STREAM:
                yield decode_result(await self._whole(card, response, request_id), self.address)
                return
            async with aclosing(read_events(response, self.address)) as events:
                async for data in events:
                    if card.binding == JSONRPC:
                        result = decode_rpc(data, request_id, self.address)
                    else:
                        result = decode_object(data, self.address)
                        if result.get("error") is not None:
                            raise rpc_error(result["error"], self.address)
                    yield decode_result(result, self.address)
