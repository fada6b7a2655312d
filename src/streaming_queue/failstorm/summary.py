"""The figures of one protocol's storm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from streaming_queue.failstorm.measures import CycleFigures, figures_of, wrongly_ejected
from streaming_queue.failstorm.plan import Fault
from streaming_queue.failstorm.record import Ledger
from streaming_queue.failstorm.statistics import Estimate, estimate
from streaming_queue.failstorm.timeline import Timeline

TIMES = tuple(field.name for field in fields(CycleFigures))
"""The figures that are medians over the cycles."""
COUNTS = ("re_executions", "late_duplicates_rejected", "lost", "recorded_twice", "wrongly_ejected")
"""Those that are sums over the storm."""


@dataclass(frozen=True, slots=True)
class Summary:
    """`times` has an estimate for each of `TIMES`, None where the fault has none; the rest counts the whole storm."""

    protocol: str
    cycles: int
    questions: int
    capacity_per_s: float
    offered_per_s: float
    times: Mapping[str, Estimate | None]
    re_executions: int
    late_duplicates_rejected: int
    lost: int
    recorded_twice: int
    wrongly_ejected: int

    def entry(self) -> dict[str, Any]:
        """The figures for JSON: counts are integers, times `{"median", "low", "high"}`, null what did not happen."""
        rates = {"capacity_per_s": round(self.capacity_per_s, 1), "offered_per_s": round(self.offered_per_s, 1)}
        times = {name: None if found is None else _plain(found) for name, found in self.times.items()}
        counts = {name: getattr(self, name) for name in COUNTS}
        return {"cycles": self.cycles, "questions": self.questions, **rates, **times, **counts}


def sum_up(protocol: str, fault: Fault, timeline: Timeline, ledger: Ledger) -> Summary:
    """The summary of what was seen and recorded."""
    figures = [figures_of(timeline, cycle, is_seen=fault.is_seen) for cycle in timeline.cycles]
    values = {name: [getattr(each, name) for each in figures] for name in TIMES}
    return Summary(
        protocol=protocol,
        cycles=len(timeline.cycles),
        questions=ledger.questions,
        capacity_per_s=timeline.capacity_per_s,
        offered_per_s=timeline.offered_per_s,
        times={name: estimate([value for value in values[name] if value is not None]) for name in TIMES},
        re_executions=ledger.re_executions,
        late_duplicates_rejected=ledger.late_duplicates_rejected,
        lost=ledger.lost,
        recorded_twice=ledger.recorded_twice,
        wrongly_ejected=wrongly_ejected(timeline, is_seen=fault.is_seen),
    )


def _plain(found: Estimate) -> dict[str, float | None]:
    values = {"median": found.median, "low": found.low, "high": found.high}
    return {name: round(value, 4) if math.isfinite(value) else None for name, value in values.items()}
