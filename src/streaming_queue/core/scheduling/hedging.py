"""When a slow question goes to a second worker, too."""

from __future__ import annotations

from collections import deque
from statistics import median

SLOW = 2.0
"""A question is slow after so many times the median of recent answers."""
SHARE = 0.05
"""The largest share of duplicates in the questions asked."""
LEAST = 8
"""How many duplicates a small run may have, and how many answers come before the first duplicate."""
_RECENT = 256


class Hedging:
    """Duplicates of slow questions, once no other question is left to ask. Pure.

    `duplicates` counts them. A slow worker then delays the end of a run only as long as another worker takes.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        self._asked = 0
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def asked(self, *, duplicate: bool) -> None:
        """Count a question that is asked, for the first time or as a duplicate."""
        self._asked += not duplicate
        self.duplicates += duplicate

    def answered(self, seconds: float) -> None:
        """Note how long an answer took."""
        self._recent.append(seconds)

    def after_s(self) -> float | None:
        """How long a question must be in flight before it is duplicated; None: not now."""
        if len(self._recent) < LEAST or self.duplicates >= max(LEAST, SHARE * self._asked):
            return None
        return SLOW * median(self._recent)
