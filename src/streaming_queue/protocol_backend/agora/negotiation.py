"""What we know of one peer: whether it speaks by our document, or in natural language only. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any

from streaming_queue.errors import ProtocolError
from streaming_queue.protocol_backend.agora.document import HASH, HEX_HASH, hash_of, names_of, read_data_uri

logger = logging.getLogger(__name__)


class Stage(Enum):
    """How far a peer and we have come."""

    UNKNOWN = "not asked yet"
    STRANGER = "natural language so far"
    WILLING = "natural language so far, our document is next"
    OFFERED = "our document is being offered"
    AGREED = "our document"
    DECLINED = "natural language"


class Negotiation:
    """The way from natural language to our document.

    A peer that lists the document is asked by it at once. Another gets its first question in natural language, and
    the next one by the document, which comes along. If it does not take to it, that is logged, and it is asked in
    natural language from then on.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.stage = Stage.UNKNOWN
        self.name = HASH
        """What the peer calls our document."""

    def met(self, listing: Mapping[str, Any] | None) -> None:
        """The peer listed these documents, or has no list. Raises ProtocolError when ours is not what it calls so."""
        if self.stage is not Stage.UNKNOWN:
            return  # another message met it meanwhile
        for name in (HASH, HEX_HASH):
            if listing and name in listing:
                self._check(name, listing[name])
                self.name = name
                self.stage = Stage.AGREED
                return
        self.stage = Stage.STRANGER

    def _check(self, name: str, sources: Any) -> None:
        for source in sources if isinstance(sources, list) else ():
            if isinstance(source, str) and source.startswith("data:"):
                try:
                    document = read_data_uri(source)
                except ProtocolError as error:
                    raise ProtocolError(
                        f"{self.address}: lists what is no document: {error}", retryable=False
                    ) from error
                if name not in names_of(document):
                    told = f"lists the hash {name} for a document whose hash is {hash_of(document)}"
                    raise ProtocolError(f"{self.address}: {told}", retryable=False)

    def understood(self) -> None:
        """It answered in natural language."""
        if self.stage is Stage.STRANGER:
            self.stage = Stage.WILLING

    def begin_offer(self) -> bool:
        """Whether the message at hand is to offer the document; one does at a time."""
        if self.stage is not Stage.WILLING:
            return False
        self.stage = Stage.OFFERED
        return True

    def taken(self) -> None:
        """It replied by the document."""
        self.stage = Stage.AGREED
        logger.info("%s: agreed on our protocol document %s", self.address, HASH)

    def declined(self, reason: str) -> None:
        """It does not speak by the document."""
        if self.stage is Stage.DECLINED:
            return  # another message said so meanwhile
        self.stage = Stage.DECLINED
        logger.warning(
            "%s is asked in natural language from now on, without metadata or typed failures: %s", self.address, reason
        )

    def offer_broke(self) -> None:
        """The offer came to no end: another message makes it."""
        if self.stage is Stage.OFFERED:
            self.stage = Stage.WILLING

    def forget(self) -> None:
        """The peer is not what it was: the next message meets it anew."""
        if self.stage is not Stage.DECLINED:
            self.stage = Stage.UNKNOWN
