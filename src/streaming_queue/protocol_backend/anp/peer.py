"""One remote agent: its interface, and its bearer token for us."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from streaming_queue.comm import strict_json
from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import JSON, HttpPeer, HttpSession, read_body, response_error
from streaming_queue.comm.jsonrpc import Call, agent_failure, decode_response, encode_call
from streaming_queue.comm.wire_errors import excerpt, reported_error
from streaming_queue.errors import AuthError, ConfigError, ProtocolError
from streaming_queue.protocol_backend.anp.description import AD_PATH, CANCEL
from streaming_queue.protocol_backend.anp.identity import Identity
from streaming_queue.protocol_backend.anp.remote_interface import Interface, interfaces, read_interface
from streaming_queue.protocol_backend.anp.token import Token

MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_INTERFACES = 20


class Peer(HttpPeer):
    """An agent at an address. We read its documents once, and send its token until the agent refuses the token.

    `caller` returns the identity of our calls. The methods raise the library's errors unchanged.
    """

    def __init__(
        self,
        agent_id: str,
        address: str,
        options: EndpointOptions,
        session: HttpSession,
        *,
        method: str | None,
        caller: Callable[[], Awaitable[Identity]],
    ) -> None:
        """Raises ConfigError on an address or a header that is not valid, and on a credential."""
        if options.credential is not None:
            raise ConfigError(
                f"agent {agent_id!r}: anp uses an identity instead of a credential: set anp.identity, and remove "
                "network.token"
            )
        super().__init__(agent_id, address, options, session)
        url = self.url
        if url.explicit_port == URL.build(scheme=url.scheme, host="h").port:
            url = url.with_port(None)  # the Host header omits it, and the signature must match the request
        self.url = url if url.path.endswith(".json") else url / AD_PATH[1:]
        self._method = method
        self._caller = caller
        self._interface: Interface | None = None
        self._reading = asyncio.Lock()
        self._token = Token()
        self._ids = itertools.count(1)

    # --- its documents ---

    async def description(self) -> tuple[dict[str, Any], Mapping[str, str]]:
        """The agent description, and the headers of its response."""
        document, headers = await self._document(self.url)
        if not isinstance(document, dict):
            raise ProtocolError(f"{self.url}: is not an agent description{excerpt(repr(document).encode())}")
        return document, headers

    async def interface(self) -> Interface:
        """The agent's interface. Raises ConfigError if anp.method must be set, ProtocolError on bad documents."""
        async with self._reading:
            if self._interface is None:
                self._interface = await self._read_interface()
            return self._interface

    async def _read_interface(self) -> Interface:
        description, _ = await self.description()
        offered = list(interfaces(description, str(self.url)))[:MAX_INTERFACES]
        if not offered:
            raise ProtocolError(f"{self.url}: the agent offers no OpenRPC interface", retryable=False)
        documents = [(await self._document(each))[0] if isinstance(each, URL) else each for each in offered]
        return read_interface(documents, str(self.url), self._method)

    async def _document(self, url: URL) -> tuple[Any, Mapping[str, str]]:
        async with self._shown("GET", url, signed=False) as response:
            body = await read_body(response, str(url), MAX_DOCUMENT_BYTES)
            self._check(response, body, str(url))
            try:
                return strict_json.read(body), response.headers
            except ValueError as error:
                raise ProtocolError(f"{url}: the answer is not valid JSON{excerpt(body)}") from error

    # --- asking ---

    async def connect(self) -> None:
        """Read the agent's documents and authenticate, so that the first questions need no signature each."""
        interface = await self.interface()
        if interface.cancels and not self._token:
            await self.introduce()

    async def introduce(self) -> None:
        """Send the agent our identity, if it has a method without a question."""
        await self.cancel(f"introduction/{secrets.token_hex(8)}")

    async def cancel(self, key: str) -> None:
        """Cancel the question with this idempotency key, if the agent has a method for it."""
        interface = await self.interface()
        if interface.cancels:
            call = self.new_call(CANCEL, {"idempotency_key": key})
            async with self.call(interface.url, call) as response:
                await self.result(response, call)

    def new_call(self, method: str, params: dict[str, Any]) -> Call:
        """A call with a new id."""
        return Call(next(self._ids), method, params)

    def call(self, url: URL, call: Call, accept: str = JSON) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The response to a call. Raises AuthError if the agent refuses our identity."""
        return self._shown("POST", url, encode_call(call), accept)

    async def result(self, response: aiohttp.ClientResponse, call: Call) -> Any:
        """The result in the whole response to a call. Raises like `decode_response`, and the error of its status."""
        body = await read_body(response, self.address)
        self._check(response, body, self.address)
        return decode_response(body, call.call_id, self.address, agent_failure)

    def _check(self, response: aiohttp.ClientResponse, body: bytes, address: str) -> None:
        """Raise the error of a status other than 200."""
        if response.status != 200:
            self._interface = None if response.status in (404, 405) else self._interface
            raise response_error(response, body, address)

    # --- our identity ---

    @asynccontextmanager
    async def _shown(
        self, method: str, url: URL, body: bytes = b"", accept: str = JSON, *, signed: bool = True
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a request; first with the token or without proof, then with a signature if that is refused.

        Raises AuthError if the agent also refuses the signature.
        """
        token = self._token.value if signed else None
        if not signed or token is not None:
            headers = {"Accept": accept} | ({} if token is None else {"Authorization": f"Bearer {token}"})
            async with self.request(method, url, body or None, headers) as response:
                if response.status != 401:
                    self._token.keep(response.headers)
                    yield response
                    return
            self._token.refused(token)
        proof = (await self._caller()).sign(method, str(url), body)
        async with self.request(method, url, body or None, {"Accept": accept, **proof}) as response:
            if response.status == 401:
                raise await self._refused(response)
            self._token.keep(response.headers)
            yield response

    async def _refused(self, response: aiohttp.ClientResponse) -> AuthError:
        """The error that names our DID, the agent's reason and a remedy."""
        body = await read_body(response, self.address, MAX_DOCUMENT_BYTES)
        failure = reported_error(strict_json.read_or_none(body), None, self.address)
        reason = failure or f"{self.address}: answered 401{excerpt(body)}"
        did = (await self._caller()).did
        return AuthError(f"{reason}; we call as {did}: add this DID to anp.trusted there, or set anp.identity here")
