"""A session with a server: the agreed version, and requests in its form."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from streaming_queue import __version__
from streaming_queue.comm.jsonrpc import Call, Message, encode_notification, is_response
from streaming_queue.errors import ProtocolError, RemoteError
from streaming_queue.protocol_backend.mcp.codec import read_result
from streaming_queue.protocol_backend.mcp.dialect import (
    CAPABILITIES_KEY,
    CLIENT_KEY,
    EXTENSION,
    METHOD_HEADER,
    MODERN,
    NAME_HEADER,
    VERSION_HEADER,
    VERSION_KEY,
)
from streaming_queue.protocol_backend.mcp.tools import header_value

CLIENT = {"name": "streaming-queue", "version": __version__}
MAX_PAGES = 100


class LostSessionError(RemoteError):
    """The server no longer knows the session; a new session may work."""


@dataclass(frozen=True, slots=True)
class Request(Call):
    """A request, and the headers that it has over HTTP."""

    call_id: int
    headers: Mapping[str, str]


class Link(Protocol):
    """A link to a server. `patience_s` limits the time to agree, `probe_s` the time of a probe.

    `lasting`: an agreement is valid as long as the link is alive, also after failures.
    """

    address: str
    patience_s: float
    probe_s: float
    lasting: bool

    @property
    def starting(self) -> str | None:
        """The starting command, and its time so far; None if no command is starting."""

    @property
    def remarks(self) -> str:
        """The server's output outside of the protocol, for the text of an error; may be empty."""

    @property
    def alive(self) -> bool:
        """Whether an agreement may still be valid."""

    @property
    def finds_requests(self) -> bool:
        """Whether the server finds a request in flight by its id, so that a cancel can name the id."""

    async def begin(self) -> None:
        """Drop the earlier agreement, and prepare for a new one."""

    def exchange(self, request: Request) -> AsyncGenerator[Message, None]:
        """Send a request and yield its messages, the response last."""

    async def send_message(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a notification or a response. Raises like `exchange`."""

    async def close(self) -> None:
        """Close the link; idempotent and bounded."""


@dataclass(slots=True)
class Session:
    """A server and the agreed version. `about` has its capabilities."""

    link: Link
    version: str
    about: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    ids: count[int] = field(default_factory=lambda: count(1))

    @property
    def modern(self) -> bool:
        """Whether requests are independent: no handshake, no session."""
        return self.version == MODERN

    @property
    def ours(self) -> bool:
        """Whether the server supports our extension."""
        capabilities = self.about.get("capabilities")
        if not isinstance(capabilities, dict):
            return False
        return any(EXTENSION in (capabilities.get(place) or ()) for place in ("extensions", "experimental"))

    def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        meta: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        progress: bool = False,
    ) -> Request:
        """A request by the rules of the version; `progress`: ask for progress notifications, with its id as token."""
        number = next(self.ids)
        meta = dict(meta or {})
        if progress:
            meta["progressToken"] = number
        if self.modern:
            meta |= {VERSION_KEY: self.version, CLIENT_KEY: CLIENT, CAPABILITIES_KEY: {}}
        fields = dict(headers or {}) | self._headers(method)
        if self.modern and isinstance(params.get("name"), str):
            fields[NAME_HEADER] = header_value(params["name"])
        return Request(number, method, {**params, "_meta": meta} if meta else params, fields)

    def _headers(self, method: str) -> dict[str, str]:
        if self.modern:
            return {VERSION_HEADER: self.version, METHOD_HEADER: method}
        return {} if method == "initialize" else {VERSION_HEADER: self.version}

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The result of a request. Raises like the link and like `read_result`."""
        request = self.request(method, params or {})
        async with aclosing(self.link.exchange(request)) as messages:
            async for message in messages:
                if is_response(message):
                    return read_result(message, request.call_id, self.link.address)
        raise ProtocolError(f"{self.link.address}: no response arrived")

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send a notification. Raises like the link."""
        await self.link.send_message(encode_notification(method, params), self._headers(method))

    async def tools(self) -> list[Any]:
        """All tools that the server lists."""
        tools: list[Any] = []
        params: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            page = await self.call("tools/list", params)
            listed = page.get("tools")
            if not isinstance(listed, list):
                raise ProtocolError(f"{self.link.address}: its list of tools is not a list: {str(page)[:120]!a}")
            tools += listed
            if not isinstance(cursor := page.get("nextCursor"), str):
                return tools
            params = {"cursor": cursor}
        raise ProtocolError(f"{self.link.address}: its list of tools has more than {MAX_PAGES} pages")
