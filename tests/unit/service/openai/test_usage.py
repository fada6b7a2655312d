from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage
from openai.types.batch_usage import BatchUsage
from openai.types.responses import ResponseUsage
from unit.service.openai.shapes import JSON, TEXTS, shaped

from streaming_queue.service.openai.usage import Tokens

NAMES = ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "prompt_tokens_details"]


def test_both_vocabularies_are_read() -> None:
    assert Tokens.of({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9}) == Tokens(3, 4, 9)
    assert Tokens.of({"input_tokens": 3, "output_tokens": 4}) == Tokens(3, 4, 7)
    detailed = {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert Tokens.of(detailed) == Tokens(3, 4, 7, 2, 1)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": 1},
        {"completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 1.0, "completion_tokens": 1},
        {"prompt_tokens": 2**53, "completion_tokens": 1},
    ],
)
def test_half_a_usage_is_none(usage: dict[str, object] | None) -> None:
    assert Tokens.of(usage) is None


@given(st.dictionaries(st.sampled_from(NAMES) | TEXTS, JSON | st.integers(0, 9)))
def test_any_usage_gives_valid_shapes_or_none(usage: dict[str, object]) -> None:
    if tokens := Tokens.of(usage):
        shaped(CompletionUsage, tokens.as_chat())
        shaped(ResponseUsage, tokens.as_response())
        shaped(BatchUsage, tokens.as_batch())


def test_details_stand_only_where_known_in_a_chat() -> None:
    assert Tokens(1, 2, 3).as_chat() == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert shaped(CompletionUsage, Tokens(1, 2, 3, 0, 5).as_chat()).completion_tokens_details.reasoning_tokens == 5
    assert shaped(BatchUsage, Tokens(1, 2, 3, 4).as_batch()).input_tokens_details.cached_tokens == 4
