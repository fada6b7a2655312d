"""Foreign protocol documents, from the sources that the configuration allows."""

from __future__ import annotations

import errno
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from streaming_queue.comm.client.http import read_body
from streaming_queue.comm.payload import malformed
from streaming_queue.errors import CommError, ConfigError
from streaming_queue.protocol_backend.agora.document import MAX_DOCUMENT_BYTES, names_of, read_data_uri, read_document

logger = logging.getLogger(__name__)

DATA = "data:"
"""The allowed source for documents in a message."""
FETCH_TIMEOUT_S = 5.0
MOST_TRIED = 4
MOST_KEPT = 64


class Sources:
    """The allowed sources of one host.

    Each is `data:`, for documents in a message, or an origin like `https://example.org`. A document is fetched from an
    origin without redirects, credentials or proxies. A host name must not resolve to a private address; an IP address
    in the configuration may be private.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        """Raises ConfigError on any other source."""
        texts = tuple(allowed)
        self._data = DATA in texts
        self._origins = frozenset(_origin(text) for text in texts if text != DATA)
        self._documents: OrderedDict[str, str] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def find(self, name: str, sources: Sequence[str]) -> str | None:
        """The document of this name, kept or from the first allowed source that has it; None without one."""
        if name in self._documents:
            self._documents.move_to_end(name)
            return self._documents[name]
        for source in [source for source in sources if self._allows(source)][:MOST_TRIED]:
            try:
                document = await self._take(source)
            except (CommError, aiohttp.ClientError, OSError) as error:
                logger.info("no protocol document from %.100s: %s", source, error)
                continue
            if name in names_of(document):
                self._documents[name] = document
                if len(self._documents) > MOST_KEPT:
                    self._documents.popitem(last=False)
                return document
            logger.info("the protocol document from %.100s does not have the hash %.60s", source, name)
        return None

    def _allows(self, source: str) -> bool:
        if source.startswith(DATA):
            return self._data
        try:
            url = URL(source)
            return url.user is None and url.origin() in self._origins
        except ValueError:
            return False

    async def _take(self, source: str) -> str:
        if source.startswith(DATA):
            return read_data_uri(source)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_PublicResolver(), limit=8, force_close=True),
                timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        headers = {"Accept": "text/plain, */*;q=0.1", "Accept-Encoding": "identity"}
        async with self._session.get(source, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise malformed(f"the source answered {response.status}")
            return read_document(await read_body(response, source, MAX_DOCUMENT_BYTES))

    async def aclose(self) -> None:
        """Cancel the fetches in flight; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _origin(text: str) -> URL:
    try:
        url = URL(text)
        usable = url.scheme in ("http", "https") and url.host and url.user is None and url == url.origin() / ""
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"agora.sources: {text.rpartition('@')[2]!r} must be {DATA} or an origin like https://host:port"
        )
    return url.origin()


class _PublicResolver(AbstractResolver):
    """Refuses host names that resolve to this machine, a private network or an unspecified address."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError if one of them is not public."""
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            if not ip_address(each["host"].partition("%")[0]).is_global:
                raise OSError(errno.EACCES, f"{host} is {each['host']}, which is not a public address")
        return found

    async def close(self) -> None:
        """Do nothing."""
        await self._resolver.close()
