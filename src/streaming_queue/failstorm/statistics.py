"""Medians and their confidence intervals, for any distribution."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median and its 95 % confidence interval; infinite: it never happened."""

    median: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate | None:
    """The median of independent values and its interval by order statistics; None for no values.

    The true median lies between the k-th smallest and the k-th largest of n values with the probability
    1 - 2 P(Binomial(n, 1/2) < k), for any distribution; k is the largest with at least 95 %. Fewer than six values
    have no such k: then the interval holds all values, with less confidence.
    """
    if not values:
        return None
    ordered = sorted(values)
    inward = _inward(len(ordered))
    return Estimate(statistics.median(ordered), ordered[inward], ordered[-1 - inward])


def _inward(count: int) -> int:
    """Number of values outside of the interval at each end: k - 1, or 0."""
    tail = (1 - CONFIDENCE) / 2
    chances: Iterator[float] = accumulate(math.comb(count, index) / 2**count for index in range(count))
    return max(0, sum(chance <= tail for chance in chances) - 1)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed (nearest rank); inf for no values."""
    if not values:
        return math.inf
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
