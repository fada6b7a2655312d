"""The choice of the provider and its reason: the stated type, else the configured provider, else the mock."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streaming_queue.llm.base import LLM
from streaming_queue.llm.mock import MockLLM

if TYPE_CHECKING:
    from streaming_queue.config import Core, Mock

NOTHING = "no provider is configured"
_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL")


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """A provider, the setting that chose it, and its address (None: in this process)."""

    llm: LLM
    reason: str
    address: str | None = None

    def describe(self) -> str:
        """The line for the terminal: `LLM: mock (no provider is configured; answers are made up)`."""
        if self.llm.is_mock:
            return f"LLM: {self.llm.provider} ({self.reason}; answers are made up)"
        model = self.llm.model or "the first model listed"
        place = f" at {self.address}" if self.address else ""
        return f"LLM: {self.llm.provider}, {model}{place} ({self.reason})"


def choose(core: Core, mock: Mock, *, environ: Mapping[str, str] | None = None) -> ProviderChoice:
    """The provider for these settings, without an import of its SDK, a request or a connection.

    `core.type` decides. If it is None, a named server, key or model means openai, and none of them the mock.
    OPENAI_API_KEY and OPENAI_BASE_URL of `environ` (default: the process's) count if no setting states the value, but
    not for a server that `core.base_url` or `core.port` name.

    Raises:
        ConfigError: openai is chosen and unusable; the mock never replaces it.
    """
    environ = os.environ if environ is None else environ
    variables = {} if core.is_local else {name: environ.get(name, "").strip() for name in _VARIABLES}
    base_url = core.api_base or variables.get("OPENAI_BASE_URL") or None
    api_key = core.openai_api_key.get_secret_value() if core.openai_api_key else variables.get("OPENAI_API_KEY") or None
    if core.type is not None:
        reason = "core.type"
    elif core.is_local:
        reason = "core.base_url" if core.base_url is not None else "core.port"
    elif api_key:
        reason = "OPENAI_API_KEY" if api_key == variables["OPENAI_API_KEY"] else "core.openai_api_key"
    elif base_url:
        reason = "OPENAI_BASE_URL" if base_url == variables["OPENAI_BASE_URL"] else "core.openai_base_url"
    else:
        reason = "core.name" if core.name is not None else NOTHING
    if core.type == "mock" or reason == NOTHING:
        made_up = MockLLM(seed=mock.seed, latency_ms=mock.latency_ms, failure_rate=mock.failure_rate)
        return ProviderChoice(made_up, reason)

    from streaming_queue.llm.openai import OpenAILLM

    llm = OpenAILLM(
        core.name,
        api_key=api_key,
        base_url=base_url,
        temperature=core.temperature,
        max_tokens=core.max_tokens,
        timeout_s=core.timeout_s,
    )
    return ProviderChoice(llm, reason, llm.origin)
