"""Percentiles of any number of values in bounded memory: exact up to `EXACT` values, else within half a per cent."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import repeat
from typing import Any

EXACT = 100_000
"""Up to this many values are stored exactly."""
WIDTH = 1.01
"""Further values are counted in buckets whose bounds are a per cent apart (DDSketch, Masson et al. 2019)."""
_PER_BUCKET = 1 / math.log(WIDTH)
_NOTHING = -(2**31)
"""The bucket of zero."""


class Distribution:
    """Values, none of them negative. Count, mean, deviation and extremes are always exact."""

    def __init__(self) -> None:
        self._values = array("d")
        self._buckets: Counter[int] = Counter()
        self._count = 0
        self._mean = self._squares = 0.0
        self._least, self._most = math.inf, -math.inf

    def add(self, value: float) -> None:
        """Add a value."""
        if self._count:
            self._put(value)
            return
        self._values.append(value)
        if len(self._values) > EXACT:
            values, self._values = self._values, array("d")
            for kept in values:
                self._put(kept)

    def _put(self, value: float) -> None:
        self._count += 1
        distance = value - self._mean
        self._mean += distance / self._count
        self._squares += distance * (value - self._mean)
        self._least, self._most = min(self._least, value), max(self._most, value)
        self._buckets[int(math.log(value) * _PER_BUCKET // 1) if value > 0 else _NOTHING] += 1

    def merge(self, other: Distribution) -> None:
        """Add all values of `other`."""
        if self._count or len(self._values) + len(other._values) > EXACT:
            for value in other._values:
                self.add(value)
        else:
            self._values.extend(other._values)
        if not other._count:
            return
        for value in self._values:
            self._put(value)
        self._values = array("d")
        count = self._count + other._count
        distance = other._mean - self._mean
        self._squares += other._squares + distance**2 * self._count * other._count / count
        self._mean += distance * other._count / count
        self._count = count
        self._least, self._most = min(self._least, other._least), max(self._most, other._most)
        self._buckets.update(other._buckets)

    def describe(self) -> dict[str, Any]:
        """count, mean, std (of the population), min, p50, p95, p99, max; without values all are None except count."""
        if not self._count:
            return describe(array("d", sorted(self._values)))
        ordered = sorted(self._buckets.items())
        return {
            "count": self._count,
            "mean": self._mean,
            "std": math.sqrt(self._squares / self._count),
            "min": self._least,
            **{f"p{percent}": self._percentile(ordered, percent) for percent in (50, 95, 99)},
            "max": self._most,
        }

    def _percentile(self, ordered: Sequence[tuple[int, int]], percent: float) -> float:
        position = (self._count - 1) * percent / 100
        seen = 0
        for bucket, count in ordered:
            seen += count
            if seen > position:
                middle = 0.0 if bucket == _NOTHING else math.exp((bucket + 0.5) / _PER_BUCKET)
                return min(max(middle, self._least), self._most)
        return self._most


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The percentile of ascending values, interpolated linearly (`statistics.quantiles`, method "inclusive")."""
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    low = ordered[below]
    high = ordered[min(below + 1, len(ordered) - 1)]
    return low + (high - low) * (position - below)


def describe(ordered: Sequence[float]) -> dict[str, Any]:
    """`Distribution.describe` of ascending values."""
    if not ordered:
        return {"count": 0} | dict.fromkeys(("mean", "std", "min", "p50", "p95", "p99", "max"))
    count = len(ordered)
    mean = math.fsum(ordered) / count
    return {
        "count": count,
        "mean": mean,
        "std": math.dist(ordered, repeat(mean, count)) / math.sqrt(count),
        "min": ordered[0],
        **{f"p{percent}": percentile(ordered, percent) for percent in (50, 95, 99)},
        "max": ordered[-1],
    }
