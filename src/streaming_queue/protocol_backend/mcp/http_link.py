"""Streamable HTTP: one POST for each message; the answer is JSON or a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any

import aiohttp
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import HttpPeer, HttpSession, peer_date, read_body
from streaming_queue.comm.client.lines import EVENT_STREAM, read_events, read_out
from streaming_queue.comm.jsonrpc import Message, decode_messages, encode_call, is_response, refuse_request
from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.comm.wire_errors import excerpt, parse_retry_after, refusal, reported_error
from streaming_queue.errors import ProtocolError, RemoteError, StreamingQueueError
from streaming_queue.protocol_backend.mcp.codec import read_error
from streaming_queue.protocol_backend.mcp.dialect import JSON, SESSION_HEADER
from streaming_queue.protocol_backend.mcp.session import LostSessionError, Request

END_S = 0.5


class HttpLink(HttpPeer):
    """A server at a URL. `date` is its clock, from its last answer."""

    alive = True
    lasting = False
    starting = None
    remarks = ""
    patience_s = 10.0
    probe_s = 1.0

    def __init__(self, agent_id: str, address: str, options: EndpointOptions, session: HttpSession) -> None:
        super().__init__(agent_id, address, options, session)
        self.url = URL(address)  # keep a slash at the end: for some servers it makes a difference
        self.headers["Accept"] = f"{JSON}, {EVENT_STREAM}"
        self.date: datetime | None = None
        self._session_id: str | None = None

    async def begin(self) -> None:
        """Drop the session."""
        self._session_id = None

    async def close(self) -> None:
        """End the session, if the server keeps one; the backend closes the connections."""
        session_id, self._session_id = self._session_id, None
        if session_id is None:
            return
        ending = self.request("DELETE", self.url, headers={SESSION_HEADER: session_id})
        with suppress(aiohttp.ClientError, OSError, StreamingQueueError):
            async with asyncio.timeout(END_S), ending:
                pass

    async def exchange(self, request: Request) -> AsyncGenerator[Message, None]:
        """POST a request, and yield its messages; decline requests of the server.

        Raises:
            ConnectError, SendTimeoutError: no connection, or it broke.
            ProtocolError: the answer is not MCP, is too large, or ends without the response.
            AuthError, RateLimitedError, RemoteError: by the status.
            LostSessionError: the server no longer knows our session, and did not accept the request.
        """
        used = self._session_id
        with self.translated:
            async with self._post(encode_call(request), request.headers) as response:
                if request.method == "initialize":
                    self._session_id = response.headers.get(SESSION_HEADER)
                self.date = peer_date(response.headers)
                if response.status != 200:
                    raise await self._refused(response, used)
                async with aclosing(self._messages(response)) as messages:
                    async for message in messages:
                        if is_response(message):
                            await read_out(messages)
                            yield message
                            return
                        if (reply := refuse_request(message)) is not None:
                            await self.send_message(reply, request.headers)
                        yield message
        raise ProtocolError(f"{self.address}: the stream ended without the response")

    async def _messages(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Message, None]:
        if response.content_type == EVENT_STREAM:
            async with aclosing(read_events(response, self.address)) as events:
                async for data in events:
                    if data:  # an event without data only sets an id
                        for message in decode_messages(data, self.address):
                            yield message
        elif response.content_type == JSON:
            for message in decode_messages(await read_body(response, self.address), self.address):
                yield message
        else:
            body = await read_body(response, self.address)
            raise ProtocolError(f"{self.address}: answered {response.content_type!a}, not MCP{excerpt(body)}")

    async def _refused(self, response: aiohttp.ClientResponse, session_id: str | None) -> StreamingQueueError:
        body = await read_body(response, self.address)
        retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
        document = read_or_none(body)
        if session_id is not None and response.status in (400, 404):
            return LostSessionError(f"{self.address}: answered {response.status}: the session is lost{excerpt(body)}")
        if (failure := reported_error(document, retry_after_s, self.address)) is not None:
            return failure
        status = response.status
        if isinstance(document, dict) and isinstance(document.get("error"), dict) and status not in (401, 403, 429):
            return read_error(document["error"], self.address)
        if status == 404:
            return RemoteError(
                f"{self.address}: answered 404{excerpt(body)}; MCP servers are often at /mcp", retryable=False
            )
        if 200 <= status < 300:
            return ProtocolError(f"{self.address}: answered {status} instead of a response")
        return refusal(status, body, retry_after_s, self.address)

    async def send_message(self, body: bytes, headers: Mapping[str, str]) -> None:
        """POST a notification or a response. Raises like `exchange`."""
        with self.translated:
            async with self._post(body, headers) as response:
                if not 200 <= response.status < 300:
                    raise await self._refused(response, None)
                await read_body(response, self.address)

    @property
    def finds_requests(self) -> bool:
        """Whether the server keeps a session for us, and so finds a request by its id."""
        return self._session_id is not None

    def _post(self, body: bytes, headers: Mapping[str, str]) -> Any:
        if self._session_id is not None:
            headers = {**headers, SESSION_HEADER: self._session_id}
        return self.request("POST", self.url, body, headers)
