from __future__ import annotations

import math
import random
import statistics
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.report import distribution
from streaming_queue.report.distribution import Distribution, describe, percentile


def distribution_of(values: Iterable[float]) -> Distribution:
    made = Distribution()
    for value in values:
        made.add(value)
    return made


FINITE = st.floats(0, 1e9, allow_nan=False)


@given(st.lists(FINITE, min_size=2, max_size=300))
def test_the_figures_are_those_of_the_statistics_module(values):
    ordered = sorted(values)
    hundredths = statistics.quantiles(ordered, n=100, method="inclusive")
    figures = describe(ordered)
    assert figures["count"] == len(values)
    assert (figures["min"], figures["max"]) == (min(values), max(values))
    assert math.isclose(figures["mean"], statistics.fmean(values), rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(figures["std"], statistics.pstdev(values), rel_tol=1e-6, abs_tol=1e-6)
    assert math.isclose(figures["p50"], statistics.median(values), rel_tol=1e-9, abs_tol=1e-9)
    for percent in (50, 95, 99):
        assert math.isclose(figures[f"p{percent}"], hundredths[percent - 1], rel_tol=1e-9, abs_tol=1e-9)


def test_one_value_is_all_its_percentiles():
    assert describe([3.0]) == {
        "count": 1,
        "mean": 3.0,
        "std": 0.0,
        "min": 3.0,
        "p50": 3.0,
        "p95": 3.0,
        "p99": 3.0,
        "max": 3.0,
    }
    assert percentile([3.0], 0) == percentile([3.0], 100) == 3.0


def test_nothing_measured_is_none_and_not_zero():
    assert describe([]) == {
        "count": 0,
        "mean": None,
        "std": None,
        "min": None,
        "p50": None,
        "p95": None,
        "p99": None,
        "max": None,
    }


def test_as_long_as_there_are_few_it_is_exact():
    values = [random.Random(1).expovariate(0.1) for _ in range(1000)]
    assert distribution_of(values).describe() == describe(sorted(values))


@given(st.lists(FINITE, min_size=1, max_size=200), st.lists(FINITE, max_size=200), st.integers(0, 50))
def test_beyond_it_is_within_half_a_per_cent_however_it_was_put_together(first, second, exact):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distribution, "EXACT", exact)
        whole = distribution_of(first)
        whole.merge(distribution_of(second))
        reported, ordered = whole.describe(), sorted(first + second)
    expected = describe(ordered)
    assert (reported["count"], reported["min"], reported["max"]) == (
        expected["count"],
        expected["min"],
        expected["max"],
    )
    assert math.isclose(reported["mean"], expected["mean"], rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(reported["std"], expected["std"], rel_tol=1e-6, abs_tol=1e-3)
    for percent in (50, 95, 99):
        position = (len(ordered) - 1) * percent / 100
        low, high = ordered[int(position)], ordered[math.ceil(position)]
        assert low / 1.0051 <= reported[f"p{percent}"] <= high * 1.0051


@pytest.mark.parametrize(
    ("count", "small", "p50"),
    [(100, 50, 1.0), (100, 49, 1000.0), (101, 50, 1000.0), (101, 51, 1.0)],
)
def test_beyond_a_percentile_is_the_value_at_its_rank(
    monkeypatch: pytest.MonkeyPatch, count: int, small: int, p50: float
):
    """The rank is (count - 1) * percent / 100, counted from 0, as in the exact figures; rounded down."""
    monkeypatch.setattr(distribution, "EXACT", 0)
    reported = distribution_of([1.0] * small + [1000.0] * (count - small)).describe()["p50"]
    assert math.isclose(reported, p50, rel_tol=0.0051)


def test_beyond_the_exact_values_a_value_is_the_middle_of_its_bucket(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distribution, "EXACT", 0)
    for value in (1.0, 1.0049, 1.0051, 1.0099, 0.5, 123.456):
        reported = distribution_of([value / 1.5, value, value * 1.5]).describe()
        assert value / 1.005 <= reported["p50"] <= value * 1.005


def test_beyond_zeros_are_zero_and_no_percentile_is_outside_what_was_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distribution, "EXACT", 0)
    reported = distribution_of([0.0] * 60 + [5.0] * 39 + [7.0]).describe()
    assert (reported["p50"], reported["min"], reported["max"]) == (0.0, 0.0, 7.0)
    assert distribution_of([5.0]).describe()["p99"] == 5.0


@pytest.mark.parametrize("count", [100_000, 100_001])
def test_it_is_exact_up_to_a_hundred_thousand_values(count: int):
    values = [float(number * number % 1009) for number in range(count)]
    reported = distribution_of(values).describe()
    expected = describe(sorted(values))
    assert (reported == expected) == (count == 100_000)
    for name, value in reported.items():
        assert math.isclose(value, expected[name], rel_tol=0.0051), name


def test_memory_stops_growing():
    def peak(count: int) -> int:
        tracemalloc.start()
        generator = random.Random(3)
        distribution_of(generator.lognormvariate(0, 1) for _ in range(count)).describe()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distribution, "EXACT", 1000)
        assert peak(60_000) < 200_000  # bytes; as they are, the values would take 480,000
