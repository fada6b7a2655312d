"""A bandit that decides by recent costs which arms may be pulled freely. Pure: no clock, no I/O.

A sliding-window, epsilon-greedy bandit for work that workers pull. It keeps a set of arms with about equal cost instead
of one best arm, and a minimum of exploration for the other arms (docs/adr/0016).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

WINDOW = 7
"""The number of last outcomes that judge an arm: four slow ones in a row hold it back, four good ones free it."""
ENOUGH = 3
"""The fewest outcomes that judge an arm."""
MOST_FAILURES = 1
MUCH_WORSE = 2.0
"""An arm is held back if a pull with its work takes this many times as long as with the best arm."""
SLACK_MS = 5.0
"""A smaller difference never counts: a timer or a busy machine adds as much to a cost near zero."""
WORK_WINDOW = 15
MOST_SHIFTS = 100


class Standing(StrEnum):
    """The standing of an arm: free, or the reason why it is held back."""

    FREE = "free"
    SLOW = "slow"
    OVER_LIMIT = "over the limit"
    FAILING = "failing"


class Pull(StrEnum):
    """The reason for a pull: the arm is free, its cost is measured again, or there is no other arm."""

    FREELY = "freely"
    EXPLORED = "explored"
    NO_OTHER = "no other"


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of an arm's standing: the question's number, the old and new standing, and the reason."""

    question: int
    protocol: str
    was: Standing
    now: Standing
    because: str


@dataclass(slots=True)
class Arm:
    """The record of an arm. An outcome is a cost in ms, True for an answer without a cost, False for a failure."""

    outcomes: deque[float | bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    cost_ms: float | None = None
    standing: Standing = Standing.FREE
    due: int = 0
    pulls: Counter[Pull] = field(default_factory=Counter)
    held_back: Counter[Standing] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        """The number of failures in the last outcomes."""
        return sum(outcome is False for outcome in self.outcomes)

    @property
    def success_share(self) -> float | None:
        """The share of answers in the last outcomes; None without an outcome."""
        return 1 - self.failures / len(self.outcomes) if self.outcomes else None

    def add(self, outcome: float | bool) -> None:
        """Add an outcome."""
        self.outcomes.append(outcome)
        costs = [each for each in self.outcomes if not isinstance(each, bool)]
        self.cost_ms = median(costs) if costs else None


class Bandit:
    """Judges arms by their last outcomes. The same seed in `draw` and the same calls give the same decisions.

    `exploration` is the mean share of pulls for the arms that are held back: each is due at random times, with gaps of
    at most twice the mean gap. An arm whose latest answer was good is due again at once. An arm above the cost
    `limit_ms` is always held back. `draw` returns numbers from 0 to 1. At least one reachable arm is always free.
    """

    def __init__(
        self, arms: Iterable[str], *, exploration: float, draw: Callable[[], float], limit_ms: float | None = None
    ) -> None:
        self.arms = {name: Arm() for name in arms}
        self.pulls = 0
        self.shifts: deque[Shift] = deque(maxlen=MOST_SHIFTS)
        self.shift_count = 0
        self._exploration = exploration
        self._draw = draw
        self._limit_ms = limit_ms
        self._reachable = set(self.arms)
        self._work_ms: deque[float] = deque(maxlen=WORK_WINDOW)

    def add(self, name: str) -> None:
        """Add a new arm as reachable; idempotent."""
        self.arms.setdefault(name, Arm())
        self._reachable.add(name)

    # --- deciding ---

    def is_free(self, name: str) -> bool:
        """Whether the arm may be pulled at any time."""
        return self.arms[name].standing is Standing.FREE

    def is_due(self, name: str) -> bool:
        """Whether an arm that is held back must be measured now."""
        return self.pulls >= self.arms[name].due

    @property
    def is_any_due(self) -> bool:
        """Whether a reachable arm that is held back is due."""
        return any(not self.is_free(name) and self.is_due(name) for name in self._reachable)

    def pull(self, name: str, why: Pull) -> None:
        """Count a pull and its reason."""
        arm = self.arms[name]
        arm.pulls[why] += 1
        if arm.standing is not Standing.FREE:
            self._put_off(arm)
        self.pulls += 1
        for other in self._reachable:
            standing = self.arms[other].standing
            if other != name and standing is not Standing.FREE:
                self.arms[other].held_back[standing] += 1

    def _put_off(self, arm: Arm) -> None:
        """Postpone an arm's next exploration; the more arms are held back, the longer."""
        held = sum(each.standing is not Standing.FREE for each in self.arms.values())
        mean = held / self._exploration
        arm.due = self.pulls + 1 + int(self._draw() * (2 * mean - 1))

    # --- observing ---

    def answered(self, name: str, *, cost_ms: float | None, work_ms: float | None) -> None:
        """Count an answer of this arm: its cost without the work itself; None if the cost is unknown."""
        if work_ms is not None:
            self._work_ms.append(work_ms)
        self.arms[name].add(True if cost_ms is None else cost_ms)
        self._judge()
        arm = self.arms[name]
        if arm.standing is not Standing.FREE and (cost_ms is None or cost_ms <= self._bound()):
            arm.due = self.pulls  # it seems good again: measure it again at once

    def failed(self, name: str) -> None:
        """Count a failure that the arm caused."""
        self.arms[name].add(False)
        self._judge()

    def reach(self, names: Collection[str]) -> None:
        """Set the arms that can be reached."""
        self._reachable = set(names)
        self._judge()

    # --- judging ---

    def _judge(self) -> None:
        """Set every arm's standing, by the last outcomes of all arms."""
        bound = self._bound()
        judged = {name: self._standing(arm, bound) for name, arm in self.arms.items()}
        if self._reachable and not any(judged[name] is Standing.FREE for name in self._reachable):
            judged[min(sorted(self._reachable), key=self._badness)] = Standing.FREE
        for name, standing in judged.items():
            arm = self.arms[name]
            if standing is arm.standing:
                continue
            self.shift_count += 1
            self.shifts.append(Shift(self.pulls, name, arm.standing, standing, self._reason(name, standing, bound)))
            was_free, arm.standing = arm.standing is Standing.FREE, standing
            if was_free:
                self._put_off(arm)

    def _standing(self, arm: Arm, bound: float) -> Standing:
        if len(arm.outcomes) < ENOUGH:
            return Standing.FREE
        if arm.failures > MOST_FAILURES:
            return Standing.FAILING
        if arm.cost_ms is None or arm.cost_ms <= bound:
            return Standing.FREE
        over = self._limit_ms is not None and arm.cost_ms > self._limit_ms
        return Standing.OVER_LIMIT if over else Standing.SLOW

    def _best_ms(self) -> float | None:
        """The least cost of the reachable arms that do not fail."""
        known = (self.arms[name] for name in self._reachable)
        fit = (arm for arm in known if arm.failures <= MOST_FAILURES and len(arm.outcomes) >= ENOUGH)
        return min((arm.cost_ms for arm in fit if arm.cost_ms is not None), default=None)

    def _bound(self) -> float:
        """The highest cost of a free arm."""
        bound = float("inf") if self._limit_ms is None else self._limit_ms
        best_ms = self._best_ms()
        if best_ms is None:
            return bound
        work_ms = median(self._work_ms) if self._work_ms else 0.0
        return min(bound, MUCH_WORSE * (best_ms + work_ms) - work_ms + SLACK_MS)

    def _badness(self, name: str) -> tuple[int, float]:
        arm = self.arms[name]
        return arm.failures, float("inf") if arm.cost_ms is None else arm.cost_ms

    # --- reporting ---

    def _reason(self, name: str, standing: Standing, bound: float) -> str:
        arm = self.arms[name]
        if standing is Standing.FAILING:
            return f"{arm.failures} of the last {len(arm.outcomes)} questions failed"
        if standing is not Standing.FREE:
            of = "max_overhead_ms" if standing is Standing.OVER_LIMIT else "the bound by the best protocol"
            return f"overhead {arm.cost_ms:.1f} ms, above {of}, {bound:.1f} ms"
        if self._standing(arm, bound) is not Standing.FREE:
            return "no reachable protocol is better"
        cost = "unknown" if arm.cost_ms is None else f"{arm.cost_ms:.1f} ms"
        return f"overhead {cost}, {arm.failures} of the last {len(arm.outcomes)} questions failed"

    def report(self) -> dict[str, Any]:
        """Every decision so far, by arm and reason; the measurements now; the shifts."""
        return {
            "questions": self.pulls,
            "protocols": {
                name: {
                    "standing": arm.standing,
                    "taken": {why: arm.pulls[why] for why in Pull},
                    "held_back": {why: arm.held_back[why] for why in Standing if why is not Standing.FREE},
                    "overhead_ms": arm.cost_ms,
                    "success_share": arm.success_share,
                    "outcomes": len(arm.outcomes),
                }
                for name, arm in self.arms.items()
            },
            "shift_count": self.shift_count,
            "shifts": [asdict(shift) for shift in self.shifts],
        }
