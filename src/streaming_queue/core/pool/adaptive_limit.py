"""How many questions a worker is given at a time, found out while it works."""

from __future__ import annotations

BEGIN = 4
SLOW = 2.0
"""Answers that take so many times as long as the worker's quick ones say that it is asked too much at a time."""
_QUICKER, _SLOWER = 0.5, 0.0005
"""How much of a difference the notion of a quick answer takes over: soon when quicker, hardly when slower."""


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (AIMD), as TCP finds its window.

    One more after each `limit` good and quick answers that came while the limit was reached; a tenth less after a slow
    one, half after a failure or a wish to slow down, once for all questions that were under way then.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._limit = float(min(BEGIN, most))
        self._quick_s: float | None = None
        self._spared = 0

    @property
    def limit(self) -> int:
        """Questions at a time."""
        return int(self._limit)

    def answered(self, seconds: float, busy: int) -> None:
        """Count a good answer that took `seconds`, with `busy` questions under way as it came."""
        quick_s = self._quick_s
        if quick_s is None:
            self._quick_s = quick_s = seconds
        self._quick_s = quick_s + (seconds - quick_s) * (_QUICKER if seconds < quick_s else _SLOWER)
        if self._spared:
            self._spared -= 1
        elif seconds > SLOW * quick_s:
            self._decrease(0.9, busy)
        elif busy >= self.limit:
            self._limit = min(self._most, self._limit + 1 / self._limit)

    def failed(self, busy: int) -> None:
        """Count a failure, or a wish to slow down."""
        if self._spared:
            self._spared -= 1
        else:
            self._decrease(0.5, busy)

    def _decrease(self, factor: float, busy: int) -> None:
        self._limit = max(1.0, self._limit * factor)
        self._spared = max(0, busy - 1)
