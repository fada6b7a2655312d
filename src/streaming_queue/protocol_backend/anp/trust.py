"""The trusted callers of an agent, and their DID documents (docs/adr/0015)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from streaming_queue.protocol_backend.anp.documents import Neighbours, is_did, read_documents
from streaming_queue.protocol_backend.anp.library import Document
from streaming_queue.protocol_backend.anp.resolver import ResolutionError, Resolver

ANYONE = "*"


class Trust:
    """The callers that are admitted after they have proved their identity.

    `entries` are DIDs, files and directories of DID documents, or `*` for every caller. Without entries, the processes
    of this user are trusted. Our own identities are always trusted.
    """

    def __init__(self, entries: Sequence[str], neighbours: Neighbours, resolver: Resolver) -> None:
        self.anyone = ANYONE in entries
        self._dids = frozenset(filter(is_did, entries))
        self._paths = tuple(entry for entry in entries if entry != ANYONE and entry not in self._dids)
        self._neighbours = None if entries else neighbours
        self._resolver = resolver
        self._documents: dict[str, Document] = {}

    def read(self) -> None:
        """Read the trusted files. Not for the event loop. Raises ConfigError."""
        self.add(read_documents(self._paths))

    def add(self, documents: Iterable[Document]) -> None:
        """Trust the identities of these documents."""
        self._documents |= {str(document["id"]): document for document in documents}

    async def document(self, did: str) -> Document:
        """The document of a trusted caller. Raises ResolutionError if it is not trusted, or its document is missing."""
        if (known := self._documents.get(did)) is not None:
            return known
        if self._neighbours is not None:
            found = await asyncio.to_thread(self._neighbours.find, did)
            if found is not None:
                return found
        if self.anyone or did in self._dids:
            return await self._resolver.fetch(did)
        raise ResolutionError("this agent does not trust it")
