"""A conversation of several rounds (specification 7)."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from streaming_queue.protocol_backend.agora.body_formats import BodyFormat

LIFETIME_S = 300.0
MOST = 4096
"""How many conversations an agent keeps."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of one principal: its hash and format stay the same. `expires` is Unix time."""

    hash: str | None
    body_format: BodyFormat
    principal: str | None
    expires: float = field(default_factory=lambda: time.time() + LIFETIME_S)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def members(self) -> dict[str, Any]:
        """What each response in the conversation says about it."""
        return {"conversationId": self.id, "conversationExpires": int(self.expires)}
