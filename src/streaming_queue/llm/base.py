"""The contract of every provider: text in, pieces of text out, and the usage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. The last one may have `usage` (token counts under the provider's own keys).

    `truncated`: the limit of tokens ended the answer.
    """

    text: str
    usage: dict[str, Any] | None = None
    truncated: bool = False


class KeyState(StrEnum):
    """The provider's judgement of our key."""

    ACCEPTED = "accepted"
    NOT_SENT = "not sent"
    NOT_CHECKED = "not checked"  # the provider lists its models without a key too


@dataclass(frozen=True, slots=True)
class ModelListing:
    """A provider's answer without a question: its models in its order (maybe none), and its judgement of our key."""

    models: tuple[str, ...]
    key: KeyState


class LLM(ABC):
    """A model that answers. A failure raises an `LLMError`, AuthError or ConfigError and is never a text."""

    provider: ClassVar[str]
    is_mock: ClassVar[bool] = False

    def __init__(self, model: str) -> None:
        self.model = model

    @abstractmethod
    def stream(self, question: str, *, question_id: str | None = None) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces, in order. Closing the generator cancels the request.

        `question_id` distinguishes questions with the same text; most providers ignore it.
        """

    async def listing(self, within_s: float) -> ModelListing | None:
        """The provider's models and its judgement of our key, at no cost. Default: None, there is no server.

        Raises like `stream`: an LLMTimeoutError after `within_s`, an AuthError if the key is refused. The texts omit
        the provider's words, since some providers quote the refused key.
        """
        del within_s
        return None

    async def close(self) -> None:
        """Close connections; idempotent. Default: do nothing."""
