"""One agent to ask: how it wants to be asked, and the bearer token it gave us."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from streaming_queue.comm import strict_json
from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import (
    HttpSession,
    agent_headers,
    agent_url,
    excerpt,
    is_broken,
    parse_retry_after,
    read_body,
    refusal,
    told_error,
)
from streaming_queue.comm.client.reconnect import Reconnect
from streaming_queue.errors import AuthError, ConfigError, ProtocolError, StreamingQueueError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.anp.description import AD_PATH, CANCEL, EVENT_STREAM
from streaming_queue.protocol_backend.anp.identity import Identity
from streaming_queue.protocol_backend.anp.remote_interface import Interface, interfaces, read_answer, read_interface
from streaming_queue.protocol_backend.anp.responses import message, read_events
from streaming_queue.protocol_backend.anp.rpc import Call, decode_response, encode_call
from streaming_queue.protocol_backend.anp.token import Token

logger = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_INTERFACES = 20
JSON = "application/json"


class Peer:
    """An agent at an address: its documents are read once, its token is shown until it is refused.

    `caller` is who asks, `session` what it is asked with. What the library raises comes out as it is.
    """

    def __init__(
        self,
        agent_id: str,
        address: str,
        options: EndpointOptions,
        *,
        method: str | None,
        caller: Callable[[], Awaitable[Identity]],
        session: HttpSession,
    ) -> None:
        if options.credential is not None:
            raise ConfigError(
                f"agent {agent_id!r}: over anp an identity is shown, not a credential: set anp.identity, and leave "
                "network.token out"
            )
        url = agent_url(agent_id, address)
        if url.explicit_port == URL.build(scheme=url.scheme, host="h").port:
            url = url.with_port(None)  # the Host header leaves it out, and what is signed must be what is sent
        self.address = address
        self._description_url = url if url.path.endswith(".json") else url / AD_PATH[1:]
        self._headers = agent_headers(agent_id, options, {"Content-Type": JSON})
        self._tls = options.tls
        self._method = method
        self._caller = caller
        self._session = session
        self._interface: Interface | None = None
        self._reading = asyncio.Lock()
        self._token = Token()
        self._ids = itertools.count(1)

    # --- what it says about itself ---

    async def description(self) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Its agent description, and the headers it came with."""
        document, headers = await self._document(self._description_url)
        if not isinstance(document, dict):
            raise ProtocolError(f"{self._description_url}: is no agent description{excerpt(repr(document).encode())}")
        return document, headers

    async def interface(self) -> Interface:
        """How to ask it. Raises ConfigError where anp.method has to say, ProtocolError where it does not tell."""
        async with self._reading:
            if self._interface is None:
                self._interface = await self._read_interface()
            return self._interface

    async def _read_interface(self) -> Interface:
        description, _ = await self.description()
        offered = list(interfaces(description, str(self._description_url)))[:MAX_INTERFACES]
        if not offered:
            raise ProtocolError(f"{self._description_url}: the agent offers no OpenRPC interface", retryable=False)
        documents = [(await self._document(each))[0] if isinstance(each, URL) else each for each in offered]
        return read_interface(documents, str(self._description_url), self._method)

    async def _document(self, url: URL) -> tuple[Any, Mapping[str, str]]:
        async with self._request("GET", url, b"", {"Accept": JSON}, signed=False) as response:
            body = await read_body(response, str(url), MAX_DOCUMENT_BYTES)
            self._check(response, body, str(url))
            try:
                return strict_json.read(body), response.headers
            except ValueError as error:
                raise ProtocolError(f"{url}: what it answers is no JSON that can be read{excerpt(body)}") from error

    # --- asking ---

    async def connect(self) -> None:
        """Read its documents, and have it know us: the first questions then need no signature each."""
        interface = await self.interface()
        if interface.cancels and not self._token:
            await self.introduce()

    async def introduce(self) -> None:
        """Have it look at our identity, where it has a method that can be called without a question."""
        await self.cancel(f"introduction/{secrets.token_hex(8)}")

    async def send(self, payload: Mapping[str, Any]) -> Reply:
        """The answer; a connection that breaks is made anew where the message has an idempotency key."""
        recovery = Reconnect(keyed=_is_keyed(payload), broken=is_broken)
        while True:
            with recovery:
                interface = await self.interface()
                result = await self._call(interface.url, interface.method, interface.params(payload))
                return read_answer(result, self.address)

    async def stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        """The events of the answer; after a broken connection those that are new."""
        recovery = Reconnect(keyed=_is_keyed(payload), broken=is_broken)
        told, ended = 0, False
        while not ended:
            with recovery:
                seen = 0
                async with aclosing(self._events(payload)) as events:
                    async for event in events:
                        ended = event["type"] == MESSAGE
                        seen += 1
                        if ended or seen > told:
                            told = max(told, seen)
                            yield event

    async def _events(self, payload: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        interface = await self.interface()
        call = Call(next(self._ids), interface.method, interface.params(payload))
        accept = f"{EVENT_STREAM}, {JSON}" if interface.streams else JSON
        async with self._request("POST", interface.url, encode_call(call), {"Accept": accept}) as response:
            if response.status == 200 and response.content_type == EVENT_STREAM:
                async with aclosing(read_events(response, call.call_id, self.address)) as events:
                    async for event in events:
                        yield event
                return
            reply = read_answer(await self._result(response, call), self.address)
        yield message(reply)

    async def cancel(self, key: str) -> None:
        """Cancel the question with this idempotency key, where the agent has a method for it."""
        interface = await self.interface()
        if interface.cancels:
            await self._call(interface.url, CANCEL, {"idempotency_key": key})

    async def _call(self, url: URL, method: str, params: dict[str, Any]) -> Any:
        call = Call(next(self._ids), method, params)
        async with self._request("POST", url, encode_call(call), {"Accept": JSON}) as response:
            return await self._result(response, call)

    async def _result(self, response: aiohttp.ClientResponse, call: Call) -> Any:
        body = await read_body(response, self.address)
        self._check(response, body, self.address)
        return decode_response(body, call.call_id, self.address)

    def _check(self, response: aiohttp.ClientResponse, body: bytes, address: str) -> None:
        """Raise what a status other than 200 means."""
        if response.status == 200:
            return
        self._interface = None if response.status in (404, 405) else self._interface
        retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
        raise _told(body, retry_after_s, address) or refusal(response.status, body, retry_after_s, address)

    # --- showing who asks ---

    @asynccontextmanager
    async def _request(
        self, method: str, url: URL, body: bytes, headers: Mapping[str, str], *, signed: bool = True
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a request; with a signature where the token, or nothing at all, was not enough.

        Raises AuthError where the signature is not either.
        """
        token = self._token.value if signed else None
        if not signed or token is not None:
            proof = {} if token is None else {"Authorization": f"Bearer {token}"}
            async with self._once(method, url, body, headers, proof) as response:
                if response.status != 401:
                    self._token.keep(response.headers)
                    yield response
                    return
            self._token.refused(token)
        proof = (await self._caller()).sign(method, str(url), body)
        async with self._once(method, url, body, headers, proof) as response:
            if response.status == 401:
                raise await self._refused(response)
            self._token.keep(response.headers)
            yield response

    def _once(self, method: str, url: URL, body: bytes, headers: Mapping[str, str], proof: Mapping[str, str]) -> Any:
        merged: CIMultiDict[str] = self._headers.copy()
        merged.update(headers)
        merged.update(proof)
        return self._session.request(method, url, headers=merged, tls=self._tls, body=body or None)

    async def _refused(self, response: aiohttp.ClientResponse) -> AuthError:
        """The error that says who we are, why that is refused, and what to do."""
        body = await read_body(response, self.address, MAX_DOCUMENT_BYTES)
        reason = _told(body, None, self.address) or f"{self.address}: answered 401{excerpt(body)}"
        did = (await self._caller()).did
        return AuthError(f"{reason}; we call as {did}: have it trust this DID (anp.trusted there), or set anp.identity")


def _told(body: bytes, retry_after_s: float | None, address: str) -> StreamingQueueError | None:
    """The error of ours in a refusal's body, if there is one."""
    return told_error(strict_json.read_or_none(body), retry_after_s, address)


def _is_keyed(payload: Mapping[str, Any]) -> bool:
    return isinstance((payload.get("metadata") or {}).get("idempotency_key"), str)
