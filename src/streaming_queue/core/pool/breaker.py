"""The circuit breaker of one worker: a worker that keeps failing gets no questions for some time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

IN_A_ROW = 5
LEAST = 10
WINDOW_S = 10.0
COOLDOWN_S = 5.0
LONGEST_COOLDOWN_S = 60.0


class Breaker:
    """Opens after five failures in a row, or when half of at least ten answers in ten seconds were failures.

    The breaker stays open for a cooldown of 5 s and is then half open: one good answer closes it, one failure opens it
    again for twice as long, 60 s at most. Pure except for `clock`; the owner decides whether the breaker may open.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.half_open = False
        self._clock = clock
        self._cooldown_s = COOLDOWN_S
        self._in_a_row = 0
        self._seconds: deque[list[int]] = deque()  # a second, its answers, its failures

    @property
    def keeps_failing(self) -> bool:
        """Whether five answers in a row were failures."""
        return self._in_a_row >= IN_A_ROW

    def succeeded(self) -> None:
        """Count a good answer."""
        self._in_a_row = 0
        self._count(failed=0)
        if self.half_open:
            self.half_open = False
            self._cooldown_s = COOLDOWN_S

    def failed(self) -> bool:
        """Count a failure; returns whether the owner should `open` the breaker."""
        self._in_a_row += 1
        self._count(failed=1)
        answers = sum(counts[1] for counts in self._seconds)
        failures = sum(counts[2] for counts in self._seconds)
        return self.half_open or self.keeps_failing or (answers >= LEAST and 2 * failures >= answers)

    def open(self) -> float:
        """Open for the cooldown, then be half open; returns the cooldown in seconds."""
        cooldown_s = self._cooldown_s
        self._cooldown_s = min(2 * cooldown_s, LONGEST_COOLDOWN_S)
        self.half_open = True
        self._in_a_row = 0
        self._seconds.clear()
        return cooldown_s

    def forgive(self) -> None:
        """Undo a failure: the question failed at another worker too, so the question is the cause."""
        self._in_a_row = max(0, self._in_a_row - 1)
        for counts in reversed(self._seconds):
            if counts[2]:
                counts[1] -= 1
                counts[2] -= 1
                return

    def _count(self, *, failed: int) -> None:
        second = int(self._clock())
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
            while self._seconds[0][0] <= second - WINDOW_S:
                self._seconds.popleft()
        self._seconds[-1][1] += 1
        self._seconds[-1][2] += failed
