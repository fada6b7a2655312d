"""A worker's answers: from the model if one is configured, else from the mock. All protocols use only this."""

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
    """Answers questions. A subclass may override `answer`, or `stream_answer`; either is enough.

    `config` is a `Config`, a mapping with its keys, or None for the defaults. `output` is kept for subclasses.
    """

    def __init__(self, config: Config | Mapping[str, Any] | None = None, output: Any = None) -> None:
        """Raises ConfigError where `config` is not allowed; the model is chosen on first use."""
        from streaming_queue.config import Config

        self.config = Config.of(config)
        self.output = output

    @cached_property
    def choice(self) -> ProviderChoice:
        """The provider and why it was chosen. Raises ConfigError."""
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
        """The answer in pieces as the model gives them; closing the generator cancels the model's work.

        After the last piece the reply being prepared is annotated with `llm_ms`, `ttft_ms` (until the first piece),
        `model`, `mock`, and `usage` where the provider reports it.

        Raises:
            LLMError: the provider failed, by the class of the error. BadResponseError: the answer is empty.
            AuthError: the provider refused the key.
            ConfigError: the provider cannot be used as configured.
        """
        llm = self.llm
        call = current_call()
        usage: dict[str, Any] | None = None
        ttft_s: float | None = None
        blank = True
        start = time.perf_counter()
        async with aclosing(llm.stream(question, question_id=call.question_id if call else None)) as chunks:
            async for chunk in chunks:
                if chunk.usage is not None:
                    usage = chunk.usage
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
        annotate(**figures, **({} if usage is None else {"usage": usage}))

    def status(self) -> str:
        """A short text: the worker is ready; costs no model call. Raises ConfigError where the worker is not ready."""
        if type(self).answer is not QAWorkerBase.answer or type(self).stream_answer is not QAWorkerBase.stream_answer:
            return "ready"
        return f"ready, {self.choice.describe()}"

    async def close(self) -> None:
        """Close the model's connections; idempotent."""
        if "choice" in self.__dict__:
            await self.llm.close()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
