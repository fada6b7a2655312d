"""Conversations of several rounds (specification 7): so many, for so long."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from streaming_queue.protocol_backend.agora.manners import Manner

LIFETIME_S = 300.0
MOST = 4096


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation: its hash and manner stay the same, and it is its principal's own. `expires` is Unix time."""

    hash: str | None
    manner: Manner
    principal: str | None
    expires: float = field(default_factory=lambda: time.time() + LIFETIME_S)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def told(self) -> dict[str, Any]:
        """What every response in it says of it."""
        return {"conversationId": self.id, "conversationExpires": int(self.expires)}


class Conversations:
    """Those of one agent. When there are too many, the oldest ends."""

    def __init__(self) -> None:
        self._by_id: dict[str, Conversation] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def begin(self, name: str | None, manner: Manner, principal: str | None) -> Conversation:
        """A new one."""
        self._forget_expired()
        if len(self._by_id) >= MOST:
            del self._by_id[next(iter(self._by_id))]
        conversation = Conversation(name, manner, principal)
        self._by_id[conversation.id] = conversation
        return conversation

    def find(self, conversation_id: str, principal: str | None) -> Conversation | None:
        """The principal's conversation with this id, if it has not ended."""
        self._forget_expired()
        conversation = self._by_id.get(conversation_id)
        return conversation if conversation is not None and conversation.principal == principal else None

    def end(self, conversation: Conversation) -> None:
        """Forget it."""
        self._by_id.pop(conversation.id, None)

    def _forget_expired(self) -> None:
        """All live equally long, so the oldest come first."""
        now = time.time()
        while self._by_id:
            oldest = next(iter(self._by_id.values()))
            if oldest.expires > now:
                return
            del self._by_id[oldest.id]
