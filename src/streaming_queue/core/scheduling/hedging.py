"""When a question that takes long is asked elsewhere, too."""

from __future__ import annotations

from collections import deque
from statistics import median

SLOW = 2.0
"""So many times the median of recent answers is long."""
SHARE = 0.05
"""Duplicates at the most, of the questions asked."""
LEAST = 8
"""Duplicates allowed in a small round, and answers that have to be known before the first."""
_RECENT = 256


class Hedging:
    """Duplicates of the slow ones, once nothing else is left to ask. Pure.

    `duplicates` counts them. A slow worker then holds up the end of a round for no longer than it takes elsewhere.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        self._asked = 0
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def asked(self, *, duplicate: bool) -> None:
        """Count a question that is asked, for the first time or beside another worker."""
        self._asked += not duplicate
        self.duplicates += duplicate

    def answered(self, seconds: float) -> None:
        """Note how long an answer took."""
        self._recent.append(seconds)

    def after_s(self) -> float | None:
        """How long a question must have been under way to be asked elsewhere, too; None: not now."""
        if len(self._recent) < LEAST or self.duplicates >= max(LEAST, SHARE * self._asked):
            return None
        return SLOW * median(self._recent)
