from __future__ import annotations

import math
import random

import pytest

from streaming_queue.failstorm.statistics import Estimate, estimate, percentile


def test_of_nothing_there_is_no_estimate() -> None:
    assert estimate([]) is None


def test_few_values_are_their_own_interval() -> None:
    assert estimate([3.0, 1.0, 2.0]) == Estimate(2.0, 1.0, 3.0)
    assert estimate([4.0]) == Estimate(4.0, 4.0, 4.0)


@pytest.mark.parametrize(("count", "k"), [(5, 1), (6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (30, 10), (100, 40)])
def test_the_interval_is_that_of_the_sign_test(count: int, k: int) -> None:
    """The k of published tables for a median with 95 % confidence."""
    assert estimate([float(number) for number in range(1, count + 1)]) == Estimate((count + 1) / 2, k, count + 1 - k)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    chance = random.Random(1)
    found = [estimate([chance.expovariate(1.0) for _ in range(30)]) for _ in range(2000)]
    held = sum(each.low <= math.log(2) <= each.high for each in found if each)
    assert 0.945 <= held / 2000 <= 0.97  # exactly 0.957


def test_what_did_not_happen_counts_as_longer_than_all_else() -> None:
    assert estimate([1.0, math.inf, 2.0]) == Estimate(2.0, 1.0, math.inf)
    assert estimate([1.0, math.inf]) == Estimate(math.inf, 1.0, math.inf)
    assert estimate([math.inf] * 2) == Estimate(math.inf, math.inf, math.inf)


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 1.0) == 100.0
    assert percentile([5.0], 0.99) == 5.0
    assert percentile([], 0.99) == math.inf
