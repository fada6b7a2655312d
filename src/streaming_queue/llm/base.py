"""The contract of every provider: text in, pieces of text out, and what it cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. `usage` (token counts, the provider's own keys) comes with the last one, if at all."""

    text: str
    usage: dict[str, Any] | None = None


class Key(StrEnum):
    """What became of our key."""

    ACCEPTED = "accepted"
    NOT_SENT = "not sent"
    NOT_CHECKED = "not checked"  # it lists its models to anybody


@dataclass(frozen=True, slots=True)
class Listing:
    """What a provider tells without being asked a question: its models in its order (it may keep no list)."""

    models: tuple[str, ...]
    key: Key


class LLM(ABC):
    """A model that answers. Failures raise an `LLMError`, AuthError or ConfigError; a failure is never a text."""

    provider: ClassVar[str]
    is_mock: ClassVar[bool] = False

    def __init__(self, model: str) -> None:
        self.model = model

    @abstractmethod
    def stream(self, question: str, *, question_id: str | None = None) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces, in order. Closing the generator cancels the request.

        `question_id` names the question where its text alone does not; most providers need it for nothing.
        """

    async def listing(self, within_s: float) -> Listing | None:
        """The provider's models and whether it takes our key; costs nothing. Default: None, there is nobody to ask.

        Raises like `stream`: an LLMTimeoutError after `within_s`, an AuthError where the key is refused. The texts
        leave out what the provider says: some quote the key that they refuse.
        """
        del within_s
        return None

    async def close(self) -> None:
        """Give up connections; idempotent. Default: nothing to do."""
