"""Fetches the DID documents of callers from their hosts: over HTTPS, and from public addresses only."""

from __future__ import annotations

import asyncio
import socket
import ssl
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from streaming_queue.protocol_backend.anp.documents import MAX_DOCUMENT_BYTES, is_did, parse_document
from streaming_queue.protocol_backend.anp.library import Document, build_did_resolution_url

TIMEOUT_S = 5.0
AT_ONCE = 8


class ResolutionError(Exception):
    """The document cannot be fetched, or belongs to another DID; the text has the reason, in our own words."""


class Resolver:
    """Fetches DID documents (did:wba, "Read"): without redirects, 64 KiB, five seconds and eight at a time at most.

    This machine must trust the certificate (SSL_CERT_FILE adds certificates). `allow_private` allows addresses that are
    not public.
    """

    def __init__(self, *, allow_private: bool = False) -> None:
        self._allow_private = allow_private
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, did: str) -> Document:
        """The document of `did`. Raises ResolutionError."""
        if not is_did(did):
            raise ResolutionError("it is not a did:wba")
        url = build_did_resolution_url(did)
        try:
            async with asyncio.timeout(TIMEOUT_S), self._slots:
                document = parse_document(await self._get(url))
        except TimeoutError:
            raise ResolutionError(f"its document did not arrive within {TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ResolutionError("its document cannot be fetched") from error
        except ValueError as error:
            raise ResolutionError("its host serves no valid DID document") from error
        if document["id"] != did:
            raise ResolutionError("its host serves the document of another DID")
        return document

    async def _get(self, url: str) -> bytes:
        resolver = ThreadedResolver() if self._allow_private else _PublicAddresses()
        tls = await asyncio.to_thread(ssl.create_default_context)  # reads the trusted certificates
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, ssl=tls)
        async with (
            aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(
                url, allow_redirects=False, headers={"Accept": "application/json", "Accept-Encoding": "identity"}
            ) as response,
        ):
            if response.status != 200:
                raise ResolutionError(f"its host answers {response.status} for its document")
            content = b""
            while len(content) <= MAX_DOCUMENT_BYTES and (piece := await response.content.readany()):
                content += piece
            if len(content) > MAX_DOCUMENT_BYTES:
                raise ResolutionError(f"its document is over {MAX_DOCUMENT_BYTES} bytes")
            return content


class _PublicAddresses(AbstractResolver):
    """Resolves names to public addresses only; the connection uses the checked addresses."""

    def __init__(self) -> None:
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The public addresses of `host`. Raises ResolutionError if it has none."""
        found = await self._names.resolve(host, port, family)
        public = [each for each in found if ip_address(each["host"].partition("%")[0]).is_global]
        if not public:
            raise ResolutionError("its host has no public address")
        return public

    async def close(self) -> None:
        """Do nothing."""
        await self._names.close()
