"""The figures of one protocol's storm, and its targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from streaming_queue.failstorm.measures import CycleFigures, figures_of, wrongly_ejected
from streaming_queue.failstorm.plan import Fault
from streaming_queue.failstorm.record import Ledger
from streaming_queue.failstorm.statistics import Estimate, estimate
from streaming_queue.failstorm.timeline import Timeline
from streaming_queue.telemetry.text import NONE

TIMES = tuple(field.name for field in fields(CycleFigures))
"""Figures that are medians over the cycles."""
COUNTS = ("re_executions", "late_duplicates_rejected", "lost", "recorded_twice", "wrongly_ejected")
"""Figures that are sums over the storm."""
RESET_SEEN_S = 1.0
SILENCE_SEEN_S = 3.0
RECOVERED_S = 2.0


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures by name: integers for counts, floats for rates, estimates for times (None if the fault has none)."""

    protocol: str
    figures: Mapping[str, float | Estimate | None]

    def entry(self) -> dict[str, Any]:
        """The figures for JSON. A time is `{"median", "low", "high"}`, null in it means that it did not happen."""
        return {name: _plain(found) for name, found in self.figures.items()}


def sum_up(protocol: str, fault: Fault, timeline: Timeline, ledger: Ledger) -> Summary:
    """The summary of a storm."""
    cycles = [figures_of(timeline, cycle, is_seen=fault.is_seen) for cycle in timeline.cycles]
    values = {name: [getattr(each, name) for each in cycles] for name in TIMES}
    counts = asdict(ledger) | {"wrongly_ejected": wrongly_ejected(timeline, is_seen=fault.is_seen)}
    return Summary(
        protocol,
        {
            "cycles": len(cycles),
            "questions": ledger.questions,
            "capacity_per_s": timeline.capacity_per_s,
            "offered_per_s": timeline.offered_per_s,
            **{name: estimate([value for value in values[name] if value is not None]) for name in TIMES},
            **{name: counts[name] for name in COUNTS},
        },
    )


def misses(summary: Summary, fault: Fault) -> list[str]:
    """Each target that was missed, as text. A time meets its target with the upper end of its interval."""
    figures = summary.figures
    counts = ("lost", "recorded_twice", "wrongly_ejected")
    missed = [f"{name} {figures[name]:,}, not 0" for name in counts if figures[name]]
    limits = {"detection_s": RESET_SEEN_S if fault.resets else SILENCE_SEEN_S, "recovery_s": RECOVERED_S}
    for name, limit_s in limits.items():
        found = figures[name]
        if isinstance(found, Estimate) and found.high > limit_s:
            missed.append(f"{name} up to {found.high:.3g}, not at most {limit_s:g}")
    return missed


def rows(summaries: Sequence[Summary]) -> list[tuple[str, ...]]:
    """A table with a line for each figure and a column for each protocol; times are `median (low to high)`."""
    heads = ("", *(summary.protocol for summary in summaries))
    names = summaries[0].figures if summaries else ()
    return [heads, *((name, *(_shown(summary.figures[name]) for summary in summaries)) for name in names)]


def describe(figures: CycleFigures) -> str:
    """The figures of one fault in a line."""
    recovery, full = _seconds(figures.recovery_s), _seconds(figures.full_recovery_s)
    seen = "" if figures.detection_s is None else f"seen after {_seconds(figures.detection_s)}, from then "
    return f"{seen}throughput back after {recovery}, all as before after {full}"


def _plain(found: float | Estimate | None) -> Any:
    if isinstance(found, Estimate):
        return {name: round(value, 4) if math.isfinite(value) else None for name, value in asdict(found).items()}
    return round(found, 1) if isinstance(found, float) else found


def _shown(found: float | Estimate | None) -> str:
    if isinstance(found, Estimate):
        return f"{_time(found.median)} ({_time(found.low)} to {_time(found.high)})"
    return NONE if found is None else f"{found:,.0f}"


def _seconds(value: float) -> str:
    return f"{_time(value)} s" if math.isfinite(value) else _time(value)


def _time(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
