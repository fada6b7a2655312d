"""Calls to one agent over its card's HTTP interface: JSON-RPC or HTTP+JSON."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import HttpPeer, HttpSession, read_body
from streaming_queue.comm.client.lines import EVENT_STREAM, read_events
from streaming_queue.comm.client.liveness import Watch
from streaming_queue.comm.context import heard
from streaming_queue.comm.jsonrpc import decode_object, decode_response
from streaming_queue.protocol_backend.a2a.card import JSONRPC, Card
from streaming_queue.protocol_backend.a2a.codec import Result, decode_result, encode_json
from streaming_queue.protocol_backend.a2a.dialect import A2A_JSON, CALL_EXTENSION, EXTENSIONS_HEADER, VERSION_HEADER
from streaming_queue.protocol_backend.a2a.failures import http_error, parsed, rpc_error

_JSON = f"{A2A_JSON}, application/json"
_STREAM = f"{EVENT_STREAM}, {_JSON}"

REST_PATHS: Mapping[str, tuple[str, str]] = {
    "send": ("POST", "/message:send"),
    "stream": ("POST", "/message:stream"),
    "get_task": ("GET", "/tasks/{id}"),
    "cancel_task": ("POST", "/tasks/{id}:cancel"),
    "subscribe": ("POST", "/tasks/{id}:subscribe"),
}
"""Operation (a field of `Dialect`) -> method and path in HTTP+JSON (specification 1.0, section 11)."""


class Interface(HttpPeer):
    """One agent by an HTTP interface of its card."""

    def __init__(self, card: Card, agent_id: str, address: str, options: EndpointOptions, session: HttpSession) -> None:
        super().__init__(agent_id, address, options, session)
        self.card = card
        self.headers.update({VERSION_HEADER: card.dialect.version, "Accept": _JSON})
        if card.call_extension:
            self.headers[EXTENSIONS_HEADER] = CALL_EXTENSION
        self._stream_headers = self.headers.copy()
        self._stream_headers["Accept"] = _STREAM
        self._tenant = {"tenant": card.tenant} if card.tenant else {}
        self._base = str(card.url).rstrip("/") + (f"/{quote(card.tenant, safe='')}" if card.tenant else "")

    async def call(self, operation: str, params: Mapping[str, Any], request_id: str, watch: Watch | None = None) -> Any:
        """One call, one result. Raises the peer's error as ours, and ProtocolError if it is not an A2A answer.

        `watch` watches the wait for the response.
        """
        response = await self._open(operation, params, request_id, watch, streaming=False)
        if watch is not None:
            await watch.aclose()
        async with response:
            return await self._whole(response, request_id)

    async def events(
        self, operation: str, params: Mapping[str, Any], request_id: str, watch: Watch | None = None
    ) -> AsyncGenerator[Result, None]:
        """One call; yield the peer's results until the stream ends. Raises like `call`."""
        async with await self._open(operation, params, request_id, watch, streaming=True) as response:
            if response.status != 200 or response.content_type != EVENT_STREAM:
                yield decode_result(await self._whole(response, request_id), self.address)
                return
            with self.translated:
                async with aclosing(
                    read_events(response, self.address, heard if watch is None else watch.heard)
                ) as events:
                    async for data in events:
                        yield decode_result(self._decoded(data, request_id), self.address)

    async def check_auth(self) -> None:
        """Get a task that does not exist: the interface may refuse a caller that may read the card.

        Any A2A answer passes the check; raises other failures like `call`.
        """
        nothing = uuid.uuid4().hex
        async with await self._open("get_task", {"id": nothing}, nothing, None, streaming=False) as response:
            body = await self._body(response)
            if response.status == 200:
                decode_object(body, self.address)
            elif response.status in (401, 403) or not isinstance(parsed(body).get("error"), Mapping):
                raise http_error(response.status, body, response.headers.get("Retry-After"), str(self.card.url))

    async def _open(
        self,
        operation: str,
        params: Mapping[str, Any],
        request_id: str,
        watch: Watch | None,
        *,
        streaming: bool,
    ) -> aiohttp.ClientResponse:
        method, url, body = self._request(operation, params, request_id)
        headers = self._stream_headers if streaming else self.headers
        if body is None:
            headers = headers.copy()
            del headers["Content-Type"]
        with self.translated:
            opening = self._session.request(method, url, headers=headers, tls=self._tls, body=body)
            response: aiohttp.ClientResponse = await (opening if watch is None else watch.response(opening))
            return response

    def _request(self, operation: str, params: Mapping[str, Any], request_id: str) -> tuple[str, URL, bytes | None]:
        """Method, URL and body."""
        if self.card.binding == JSONRPC:
            method = getattr(self.card.dialect, operation)
            document = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**self._tenant, **params}}
            return "POST", self.card.url, encode_json(document)
        method, path = REST_PATHS[operation]
        rest = dict(params)
        if (task_id := rest.pop("id", None)) is not None:
            path = path.format(id=quote(task_id, safe=""))
        return method, URL(f"{self._base}{path}", encoded=True), None if method == "GET" else encode_json(rest)

    async def _whole(self, response: aiohttp.ClientResponse, request_id: str) -> Any:
        body = await self._body(response)
        if response.status != 200:
            raise http_error(response.status, body, response.headers.get("Retry-After"), self.address)
        return self._decoded(body, request_id)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        with self.translated:
            return await read_body(response, self.address)

    def _decoded(self, body: bytes, request_id: str) -> Any:
        """The result in a body or an event. Raises A2A's error as ours."""
        if self.card.binding == JSONRPC:
            return decode_response(body, request_id, self.address, rpc_error)
        result = decode_object(body, self.address)
        if result.get("error") is not None:
            raise rpc_error(result["error"], self.address)
        return result
