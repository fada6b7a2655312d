"""The contract of every provider: text in, pieces of text out, and what it cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. `usage` (token counts, the provider's own keys) comes with the last one, if at all."""

    text: str
    usage: dict[str, Any] | None = None


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

    async def close(self) -> None:
        """Give up connections; idempotent. Default: nothing to do."""
