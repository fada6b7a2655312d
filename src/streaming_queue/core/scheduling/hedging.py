"""Hedging: a slow question also goes to a second worker."""

from __future__ import annotations

from collections import deque
from statistics import median

SLOW = 2.0
"""A question is slow after this many times the median of recent answers."""
SHARE = 0.05
"""The largest share of duplicates in all questions sent."""
LEAST = 8
"""The most duplicates of a small run, and the fewest answers before the first duplicate."""
_RECENT = 256


class Hedging:
    """Duplicates of slow questions, when no other question is left. Pure.

    `duplicates` counts them. Then a slow worker delays the end of a run only by the time of another worker.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        self._asked = 0
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def asked(self, *, duplicate: bool) -> None:
        """Count a question that is sent, for the first time or as a duplicate."""
        self._asked += not duplicate
        self.duplicates += duplicate

    def answered(self, seconds: float) -> None:
        """Note the time of an answer."""
        self._recent.append(seconds)

    def after_s(self) -> float | None:
        """The time in flight, in seconds, after which a question is duplicated; None: not now."""
        if len(self._recent) < LEAST or self.duplicates >= max(LEAST, SHARE * self._asked):
            return None
        return SLOW * median(self._recent)
