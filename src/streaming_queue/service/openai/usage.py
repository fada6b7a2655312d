"""Counts of tokens: a provider's own words for them -> those of OpenAI's two endpoints. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MOST = 2**53
"""A count over this is no count: JSON readers lose its digits."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one answer used. A detail that the provider did not state is None."""

    input: int
    output: int
    total: int
    cached: int | None = None
    reasoning: int | None = None

    @classmethod
    def of(cls, usage: Mapping[str, Any] | None) -> Tokens | None:
        """The counts in a provider's `usage`; None if it does not state both the input and the output.

        A value that is no count is taken as left out: an agent may send anything.
        """
        if not isinstance(usage, Mapping):
            return None
        into = _count(usage, "prompt_tokens", "input_tokens")
        out = _count(usage, "completion_tokens", "output_tokens")
        if into is None or out is None:
            return None
        total = _count(usage, "total_tokens")
        cached = _count(_inner(usage, "prompt_tokens_details", "input_tokens_details"), "cached_tokens")
        reasoning = _count(_inner(usage, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        return cls(into, out, into + out if total is None else total, cached, reasoning)

    def as_chat(self) -> dict[str, Any]:
        """`usage` of a chat completion; details stand only where they are known."""
        usage: dict[str, Any] = {
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.total,
        }
        if self.cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached}
        if self.reasoning is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return usage

    def as_response(self) -> dict[str, Any]:
        """`usage` of a response; the details are required there: an unknown one is 0."""
        usage = self.as_batch()
        usage["input_tokens_details"]["cache_write_tokens"] = 0
        return usage

    def as_batch(self) -> dict[str, Any]:
        """`usage` of a batch; the details are required there: an unknown one is 0."""
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": self.cached or 0},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning or 0},
            "total_tokens": self.total,
        }


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    values = (usage.get(name) for name in names)
    return next((each for each in values if type(each) is int and 0 <= each < _MOST), None)


def _inner(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    values = (usage.get(name) for name in names)
    return next((each for each in values if isinstance(each, Mapping)), {})
