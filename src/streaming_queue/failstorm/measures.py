"""What a recorded storm says: how soon a fault was seen, and how soon its traces were gone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from streaming_queue.failstorm.statistics import percentile
from streaming_queue.failstorm.timeline import Cycle, Timeline

WINDOW_S = 1.0
"""Throughput at a moment is that of the second that follows."""
ENOUGH = 0.95
"""The share of the throughput that counts as being back."""
LATE_S = 3.0
"""What is found wrong with a worker so soon after its fault was over is still the fault's."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class CycleFigures:
    """One fault, in seconds but for `p99_ms`; infinite: it did not happen before the next one. See docs/reliability.md.

    `detection_s` and `readmission_s` are those of the slowest of its victims; None where there is nothing to detect.
    """

    detection_s: float | None
    recovery_s: float
    full_recovery_s: float
    readmission_s: float | None
    p99_ms: float


def figures_of(timeline: Timeline, cycle: Cycle, *, is_seen: bool = True) -> CycleFigures:
    """The figures of one fault; `is_seen`: workers under it are to be left alone."""
    seen = [_first_down(timeline, cycle, worker) for worker in cycle.over]
    back = {worker: _back(timeline, cycle, worker) for worker in cycle.over}
    noticed = max((moment for moment in seen if moment < math.inf), default=cycle.began)
    share = 1 - len(cycle.over) / len(timeline.workers)
    surviving_per_s = min(timeline.offered_per_s, timeline.capacity_per_s * share)
    everybody = max(back.values())
    return CycleFigures(
        detection_s=max(seen) - cycle.began if is_seen else None,
        recovery_s=_reached(timeline, cycle, noticed, ENOUGH * surviving_per_s) - noticed,
        full_recovery_s=_reached(timeline, cycle, everybody, ENOUGH * timeline.offered_per_s) - cycle.began,
        readmission_s=max(back[worker] - over for worker, over in cycle.over.items()) if is_seen else None,
        p99_ms=1000 * percentile([wait for due, wait in timeline.waits if cycle.began <= due < cycle.ended], 0.99),
    )


def wrongly_ejected(timeline: Timeline, *, is_seen: bool = True) -> int:
    """How often a worker was taken out of service that no fault had hit, or that was back from its fault."""
    hits = {
        (moment, worker)
        for cycle in timeline.cycles
        for worker in cycle.over
        for moment in _downs(timeline, cycle, worker)
    }
    return len(timeline.downs) - (len(hits) if is_seen else 0)


def throughput(timeline: Timeline, window_s: float = WINDOW_S) -> Iterator[tuple[float, float]]:
    """Each sample's moment and the answers a second in the `window_s` that follow, as far as there are samples."""
    samples, end = timeline.samples, 0
    for moment, answers in samples:
        while end < len(samples) and samples[end][0] < moment + window_s - _ROUNDING:
            end += 1
        if end == len(samples):
            return
        yield moment, (samples[end][1] - answers) / (samples[end][0] - moment)


def _first_down(timeline: Timeline, cycle: Cycle, worker: str) -> float:
    return min(_downs(timeline, cycle, worker), default=math.inf)


def _back(timeline: Timeline, cycle: Cycle, worker: str) -> float:
    """When a victim was in service again for good: not before its fault was over."""
    over = cycle.over[worker]
    down = max(_downs(timeline, cycle, worker), default=None)
    if down is None:
        return over
    return max(over, min((up for up, who in timeline.ups if who == worker and up >= down), default=math.inf))


def _downs(timeline: Timeline, cycle: Cycle, worker: str) -> list[float]:
    """When a victim was taken out of service for this fault: while it lasted, or late, but not once it was back."""
    over = cycle.over[worker]
    ups = [up for up, who in timeline.ups if who == worker and up >= over]
    until = min(over + LATE_S, cycle.ended, *ups)
    return [moment for moment, who in timeline.downs if who == worker and cycle.began <= moment <= max(over, until)]


def _reached(timeline: Timeline, cycle: Cycle, since: float, least_per_s: float) -> float:
    """The first moment at which the throughput is at least this; infinite: not before the cycle ended."""
    for moment, per_s in throughput(timeline):
        if moment >= since and moment + WINDOW_S <= cycle.ended and per_s >= least_per_s:
            return moment
    return math.inf
