"""How many retries a run may make: a storm of failures must not cause a storm of questions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 10.0


class RetryBudget:
    """In any ten seconds `per_s` retries a second, and `share` of the questions asked in them.

    Pure except for `clock`. A retry beyond the budget is not refused: it gets a later moment.
    """

    def __init__(self, *, share: float = 0.1, per_s: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._per_s = per_s
        self._clock = clock
        self._asked: deque[tuple[int, int]] = deque()  # whole seconds, and the questions asked in each
        self._retries: deque[float] = deque()

    def asked(self) -> None:
        """Count a question that is asked."""
        second = int(self._clock())
        if self._asked and self._asked[-1][0] == second:
            self._asked[-1] = (second, self._asked[-1][1] + 1)
        else:
            self._asked.append((second, 1))
            while self._asked[0][0] <= second - WINDOW_S:
                self._asked.popleft()

    @property
    def allowed(self) -> int:
        """The retries allowed in ten seconds now."""
        since = self._clock() - WINDOW_S
        asked = sum(count for second, count in self._asked if second >= since)
        return max(1, int(self._per_s * WINDOW_S + self._share * asked))

    def reserve(self) -> float:
        """Take the next moment for a retry; returns the seconds until then."""
        now, allowed = self._clock(), self.allowed
        while self._retries and self._retries[0] <= now - WINDOW_S:
            self._retries.popleft()
        moment = now
        if len(self._retries) >= allowed:
            moment = max(now, self._retries[-allowed] + WINDOW_S)
        self._retries.append(moment)
        return moment - now
