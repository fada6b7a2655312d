"""Fair shares of leases between runs: deficit round robin (Shreedhar and Varghese, SIGCOMM 1995)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping


class FairShare:
    """Divides leases between runs by their weights. A run that has questions gets a share in every round.

    A visit gives a run as many leases as its weight is times the least weight, at least one. What a run could not take
    in a call, because the limit was reached, it takes first in the next.
    """

    def __init__(self) -> None:
        self._turns: deque[str] = deque()
        self._credits: dict[str, float] = {}

    def share(self, limit: int, demands: Mapping[str, tuple[float, int]]) -> dict[str, int]:
        """Divide `limit` leases. `demands`: by run, its weight (above 0) and the number of leases that it can take."""
        wanted = {run: count for run, (_, count) in demands.items() if count > 0}
        self._turns = deque(run for run in self._turns if run in wanted)
        self._turns.extend(run for run in wanted if run not in self._credits)
        self._credits = {run: self._credits.get(run, 0.0) for run in self._turns}
        least = min((demands[run][0] for run in wanted), default=1.0)
        shares = dict.fromkeys(self._turns, 0)
        while limit > 0 and self._turns:
            run = self._turns[0]
            if self._credits[run] < 1:
                self._credits[run] += demands[run][0] / least
            given = min(limit, wanted[run] - shares[run], int(self._credits[run]))
            shares[run] += given
            limit -= given
            self._credits[run] -= given
            if shares[run] == wanted[run]:  # it has no more questions, so it saves no credit
                self._turns.popleft()
                del self._credits[run]
            elif self._credits[run] < 1:
                self._turns.rotate(-1)
        return {run: count for run, count in shares.items() if count}
