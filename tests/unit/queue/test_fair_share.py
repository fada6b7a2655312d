"""Shares of leases between runs."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.queue.fair_share import FairShare


def given_out(weights: dict[str, float], limits: list[int], questions: int = 10**9) -> Counter[str]:
    share, total, left = FairShare(), Counter[str](), dict.fromkeys(weights, questions)
    for limit in limits:
        part = share.share(limit, {run: (weights[run], left[run]) for run in weights})
        assert sum(part.values()) == min(limit, sum(left.values()))
        for run, count in part.items():
            assert 0 < count <= left[run]
            left[run] -= count
            total[run] += count
    return total


@pytest.mark.parametrize("limits", [[1] * 6000, [7] * 1000, [64] * 100, [6000]])
def test_the_shares_follow_the_weights_however_few_are_asked_for(limits: list[int]) -> None:
    total = given_out({"a": 1.0, "b": 1.0, "c": 4.0}, limits)
    assert total["a"] == pytest.approx(sum(limits) / 6, abs=8)
    assert total["c"] == pytest.approx(sum(limits) * 4 / 6, abs=8)


def test_no_run_starves_beside_63_others_of_a_hundred_times_its_weight() -> None:
    weights = {f"heavy-{number}": 100.0 for number in range(63)} | {"light": 1.0}
    assert given_out(weights, [1] * 6400)["light"] >= 1


def test_a_run_alone_gets_everything_and_a_new_one_its_share_at_once() -> None:
    share = FairShare()
    assert share.share(100, {"a": (1.0, 10**6)}) == {"a": 100}
    assert share.share(100, {"a": (1.0, 10**6), "b": (1.0, 10**6)}) == {"a": 50, "b": 50}
    assert share.share(100, {"a": (1.0, 30), "b": (1.0, 10**6)}) == {"a": 30, "b": 70}
    assert share.share(100, {"b": (1.0, 0)}) == {}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.01, 0.5, 1.0, 3.7, 100.0]), min_size=1),
    st.lists(st.integers(1, 40), max_size=30),
    st.integers(0, 60),
)
def test_it_gives_exactly_what_is_asked_for_and_there(weights, limits, questions) -> None:
    given_out(weights, limits, questions)
