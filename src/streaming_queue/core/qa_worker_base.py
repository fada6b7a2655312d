"""A worker's answers: from the model if one is configured, else from the mock; the same for all protocols."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.context import annotate, current_call
from streaming_queue.errors import BadResponseError
from streaming_queue.llm.base import LLM
from streaming_queue.llm.choice import ProviderChoice, choose

if TYPE_CHECKING:
    from streaming_queue.config import Config


class QAWorkerBase:
    """Answers questions. A subclass may override `answer` or `stream_answer`; one is enough.

    `config` is a `Config`, a mapping with its keys, or None for the defaults. `output` is for subclasses.
    """

    def __init__(self, config: Config | Mapping[str, Any] | None = None, output: Any = None) -> None:
        """Raises ConfigError if `config` is not valid. The first question chooses the model."""
        from streaming_queue.config import Config

        self.config = Config.of(config)
        self.output = output

    @cached_property
    def choice(self) -> ProviderChoice:
        """The provider and the reason for its choice. Raises ConfigError."""
        return choose(self.config.core, self.config.mock)

    @property
    def llm(self) -> LLM:
        """The model that answers. Raises ConfigError."""
        return self.choice.llm

    async def answer(self, question: str) -> str:
        """The whole answer; raises like `stream_answer`."""
        async with aclosing(self.stream_answer(question)) as deltas:
            return "".join([delta async for delta in deltas])

    async def stream_answer(self, question: str) -> AsyncGenerator[str, None]:
        """The answer in deltas, as the model sends them; closing the generator cancels the model's work.

        After the last delta it annotates the reply with `llm_ms`, `ttft_ms` (the time to the first delta), `model`,
        `mock`, with `usage` if the provider reports it, and with `truncated` if the limit of tokens ended the answer.

        Raises:
            LLMError: the provider failed; the class gives the kind. BadResponseError: the answer is empty.
            AuthError: the provider refused the key.
            ConfigError: the provider's configuration is wrong.
        """
        llm = self.llm
        call = current_call()
        usage: dict[str, Any] | None = None
        ttft_s: float | None = None
        blank, truncated = True, False
        start = time.perf_counter()
        async with aclosing(llm.stream(question, question_id=call.question_id if call else None)) as chunks:
            async for chunk in chunks:
                if chunk.usage is not None:
                    usage = chunk.usage
                truncated = truncated or chunk.truncated
                if chunk.text:
                    if ttft_s is None:
                        ttft_s = time.perf_counter() - start
                    blank = blank and chunk.text.isspace()
                    yield chunk.text
        llm_s = time.perf_counter() - start
        if blank or ttft_s is None:
            raise BadResponseError(f"{llm.provider} {llm.model}: the answer is empty")
        figures: dict[str, Any] = {
            "llm_ms": _ms(llm_s),
            "ttft_ms": _ms(ttft_s),
            "model": llm.model,
            "mock": llm.is_mock,
        }
        if usage is not None:
            figures["usage"] = usage
        if truncated:
            figures["truncated"] = True
        annotate(**figures)

    def status(self) -> str:
        """A short text that the worker is ready; costs no model call. Raises ConfigError if it is not ready."""
        if type(self).answer is not QAWorkerBase.answer or type(self).stream_answer is not QAWorkerBase.stream_answer:
            return "ready"
        return f"ready, {self.choice.describe()}"

    async def close(self) -> None:
        """Close the model's connections; idempotent."""
        if "choice" in self.__dict__:
            await self.llm.close()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
