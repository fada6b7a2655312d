"""The adaptive limit of a worker: it finds the best number of questions in flight during the run."""

from __future__ import annotations

BEGIN = 4
SLOW = 2.0
"""An answer is slow if it takes this many times as long as the worker's quick answers."""
_QUICKER, _SLOWER = 0.5, 0.0005
"""The weight of a new answer in the time of a quick answer: high if it is quicker, low if it is slower."""


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (AIMD), like the window of TCP.

    The limit grows by one after `limit` good and quick answers at the limit. It falls by a tenth after a slow answer,
    by half after a failure or a request to slow down; once for all questions then in flight.
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
        """Count a good answer that took `seconds`, with `busy` questions in flight."""
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
        """Count a failure, or a request to slow down."""
        if self._spared:
            self._spared -= 1
        else:
            self._decrease(0.5, busy)

    def _decrease(self, factor: float, busy: int) -> None:
        self._limit = max(1.0, self._limit * factor)
        self._spared = max(0, busy - 1)
