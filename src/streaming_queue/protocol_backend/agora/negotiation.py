"""The negotiation with one peer: whether it uses our document, or natural language only. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any

from streaming_queue.errors import ProtocolError
from streaming_queue.protocol_backend.agora.document import HASH, HEX_HASH, hash_of, names_of, read_data_uri

logger = logging.getLogger(__name__)


class Stage(Enum):
    """The stage of the negotiation."""

    UNKNOWN = "not asked yet"
    STRANGER = "natural language so far"
    WILLING = "natural language so far, our document is next"
    OFFERED = "our document is being offered"
    AGREED = "our document"
    DECLINED = "natural language"


class Negotiation:
    """The change from natural language to our document.

    We ask a peer that lists the document by the document at once. Another peer gets its first question in natural
    language, and the next one by the document, which we send along. If the peer does not accept the document, we log
    that, and ask the peer in natural language from then on.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.stage = Stage.UNKNOWN
        self.name = HASH
        """The peer's name of our document."""

    def met(self, listing: Mapping[str, Any] | None) -> None:
        """Note the peer's list of documents, if any. Raises ProtocolError if it gives our hash to another document."""
        if self.stage is not Stage.UNKNOWN:
            return  # another message has read the list meanwhile
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
                        f"{self.address}: lists a source that is not a document: {error}", retryable=False
                    ) from error
                if name not in names_of(document):
                    reason = f"lists the hash {name} for a document whose hash is {hash_of(document)}"
                    raise ProtocolError(f"{self.address}: {reason}", retryable=False)

    def understood(self) -> None:
        """Note that the peer answered in natural language."""
        if self.stage is Stage.STRANGER:
            self.stage = Stage.WILLING

    def begin_offer(self) -> bool:
        """Whether this message must offer the document; only one message does so at a time."""
        if self.stage is not Stage.WILLING:
            return False
        self.stage = Stage.OFFERED
        return True

    def taken(self) -> None:
        """Note that the peer replied by the document."""
        self.stage = Stage.AGREED
        logger.info("%s: agreed on our protocol document %s", self.address, HASH)

    def declined(self, reason: str) -> None:
        """Note that the peer does not use the document."""
        if self.stage is Stage.DECLINED:
            return  # another message has noted this meanwhile
        self.stage = Stage.DECLINED
        logger.warning(
            "%s is asked in natural language from now on, without metadata or typed failures: %s", self.address, reason
        )

    def offer_broke(self) -> None:
        """Note that the offer got no reply: another message will make it."""
        if self.stage is Stage.OFFERED:
            self.stage = Stage.WILLING

    def forget(self) -> None:
        """Start again: the peer has changed, and the next message reads its list."""
        if self.stage is not Stage.DECLINED:
            self.stage = Stage.UNKNOWN
