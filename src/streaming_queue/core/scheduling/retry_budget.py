"""The limit for the retries of a run: many failures must not cause a flood of questions."""

from __future__ import annotations

import time
from bisect import insort
from collections import deque
from collections.abc import Callable

WINDOW_S = 10.0
WEIGHT = 1 / 16
"""The weight of the newest attempt in the share of failures."""
MOST_FAILURES = 0.5
"""Below this share of failures, the questions are their cause; from it on, the workers or their provider."""


class RetryBudget:
    """In any ten seconds, it allows `per_s` retries per second plus `share` of the questions sent.

    While most attempts succeed, the questions cause the failures, and their retries are free: they cost no more than
    other questions. Pure except for `clock`. A retry over the budget is not refused: it gets a later time.
    """

    def __init__(self, *, share: float = 0.1, per_s: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._per_s = per_s
        self._clock = clock
        self._asked: deque[tuple[int, int]] = deque()  # whole seconds, and the questions asked in each
        self._retries: list[float] = []
        self._failures = 0.0

    def asked(self) -> None:
        """Count a question that is sent."""
        second = int(self._clock())
        if self._asked and self._asked[-1][0] == second:
            self._asked[-1] = (second, self._asked[-1][1] + 1)
        else:
            self._asked.append((second, 1))
            while self._asked[0][0] <= second - WINDOW_S:
                self._asked.popleft()

    def ended(self, *, failed: bool) -> None:
        """Count the end of an attempt."""
        self._failures += WEIGHT * (failed - self._failures)

    @property
    def holds(self) -> bool:
        """Whether retries must keep to the budget, since most attempts fail."""
        return self._failures >= MOST_FAILURES

    @property
    def allowed(self) -> int:
        """The number of retries now allowed in ten seconds."""
        since = self._clock() - WINDOW_S
        asked = sum(count for second, count in self._asked if second >= since)
        return max(1, int(self._per_s * WINDOW_S + self._share * asked))

    def reserve(self) -> float:
        """Reserve the next time for a retry; returns the seconds until then."""
        now, allowed = self._clock(), self.allowed
        while self._retries and self._retries[0] <= now - WINDOW_S:
            del self._retries[0]
        moment = now
        if len(self._retries) >= allowed:
            moment = max(now, self._retries[-allowed] + WINDOW_S)
        insort(self._retries, moment)  # `allowed` may have grown, so that this retry is not the last
        return moment - now
