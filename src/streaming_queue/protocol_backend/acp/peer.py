"""One remote agent: its address, its manifest, requests to it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import aiohttp
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import HttpPeer, HttpSession, peer_date, read_body
from streaming_queue.comm.client.once import Once
from streaming_queue.errors import ProtocolError, RemoteError, UnavailableError
from streaming_queue.protocol_backend.acp.codec import decode_object
from streaming_queue.protocol_backend.acp.failures import NotFoundError, http_error
from streaming_queue.protocol_backend.acp.manifest import Manifest, choose

MANIFEST_TIMEOUT_S = 5.0
MAX_MANIFEST_BYTES = 1024 * 1024
AGENTS_ASKED = 1000
"""The most agents that a list may have (specification, `listAgents`)."""


class Peer(HttpPeer):
    """An agent. The first message and every probe read its manifest, and the message after a "not found" of its host.

    `url` is the agent's server; `/agents/NAME` at the end of `address` names one of several agents there.
    """

    def __init__(self, agent_id: str, address: str, options: EndpointOptions, session: HttpSession) -> None:
        """Raises ConfigError on an address or a header that is not valid."""
        super().__init__(agent_id, address, options, session)
        path, separator, name = self.url.raw_path.rpartition("/agents/")
        self._name = unquote(name) if separator and name and "/" not in name else None
        if self._name:
            self.url = self.url.with_path(path, encoded=True)
        self.runs = self.url / "runs"
        self._agent_id = agent_id
        self.manifest: Once[Manifest] = Once(self._read_manifest, f"manifest:{address}")
        """Raises AuthError if the agent refuses us, ConnectError if the server does not have the agent."""

    async def ask(self, method: str, url: URL) -> dict[str, Any]:
        """One request; returns the JSON object of the answer. Raises the library's errors and CommError."""
        async with self.request(method, url) as response:
            return await self.read(response)

    async def read(self, response: aiohttp.ClientResponse) -> dict[str, Any]:
        """The JSON object in a response. Raises the library's errors, and `http_error`."""
        body = await read_body(response, self.address)
        if not 200 <= response.status < 300:
            raise http_error(response, body, self.address)
        return decode_object(body, self.address)

    async def _read_manifest(self) -> Manifest:
        try:
            async with asyncio.timeout(MANIFEST_TIMEOUT_S):
                with self.translated:
                    return (await self.probe())[0]
        except TimeoutError as error:
            raise UnavailableError(f"{self.address}: no manifest within {MANIFEST_TIMEOUT_S:g} s") from error
        except (ProtocolError, RemoteError) as error:
            raise UnavailableError(str(error), retry_after_s=error.retry_after_s) from error

    async def probe(self) -> tuple[Manifest, datetime | None]:
        """The agent's manifest, and its clock. Raises the library's errors and CommError."""
        await self._get(self.url / "ping")
        document, date = await self._get((self.url / "agents").with_query(limit=AGENTS_ASKED))
        manifest = self.manifest.value = choose(document, self._agent_id, self._name, str(self.url).rstrip("/"))
        return manifest, date

    async def _get(self, url: URL) -> tuple[dict[str, Any], datetime | None]:
        async with self.request("GET", url) as response:
            body = await read_body(response, str(url), MAX_MANIFEST_BYTES)
            if response.status != 200:
                origin = self.address if response.status in (401, 403) else str(url)  # the whole agent refuses us
                raise http_error(response, body, origin)
            return decode_object(body, str(url)), peer_date(response.headers)

    def gone(self, error: NotFoundError) -> UnavailableError:
        """The error for a host that no longer has the agent; the next message reads the manifest again."""
        self.manifest.value = None
        return UnavailableError(str(error))
