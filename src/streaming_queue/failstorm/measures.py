"""The figures of a fault: the time until it was detected, and the time until all was as before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from streaming_queue.failstorm.statistics import percentile
from streaming_queue.failstorm.timeline import Cycle, Timeline

WINDOW_S = 1.0
"""Throughput at a moment is that of the next second."""
ENOUGH = 0.95
"""Share of the throughput that counts as recovered."""
LATE_S = 3.0
"""A worker that goes out of service within this time after its fault does so because of the fault."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class CycleFigures:
    """One fault, in seconds except `p99_ms`; infinite: not before the next fault. See docs/reliability.md.

    `detection_s` and `readmission_s` are those of its slowest victim; None if there is nothing to detect.
    """

    detection_s: float | None
    recovery_s: float
    full_recovery_s: float
    readmission_s: float | None
    p99_ms: float


def figures_of(timeline: Timeline, cycle: Cycle, *, is_seen: bool = True) -> CycleFigures:
    """The figures of one fault; `is_seen`: its victims must be taken out of service."""
    seen = [min(_downs(timeline, cycle, worker), default=math.inf) for worker in cycle.over]
    back = {worker: _back(timeline, cycle, worker) for worker in cycle.over}
    noticed = max((moment for moment in seen if moment < math.inf), default=cycle.began)
    share = 1 - len(cycle.over) / len(timeline.workers)
    surviving_per_s = min(timeline.offered_per_s, timeline.capacity_per_s * share)
    return CycleFigures(
        detection_s=max(seen) - cycle.began if is_seen else None,
        recovery_s=_recovered_at(timeline, cycle, noticed, ENOUGH * surviving_per_s) - noticed,
        full_recovery_s=_recovered_at(timeline, cycle, max(back.values()), ENOUGH * timeline.offered_per_s)
        - cycle.began,
        readmission_s=max(back[worker] - over for worker, over in cycle.over.items()) if is_seen else None,
        p99_ms=1000 * percentile([wait for due, wait in timeline.waits if cycle.began <= due < cycle.ended], 0.99),
    )


def wrongly_ejected(timeline: Timeline, *, is_seen: bool = True) -> int:
    """The number of times that a worker was taken out of service without a fault, or after its fault was over."""
    hits = {
        (moment, worker)
        for cycle in timeline.cycles
        for worker in cycle.over
        for moment in _downs(timeline, cycle, worker)
    }
    return len(timeline.downs) - (len(hits) if is_seen else 0)


def throughput(timeline: Timeline, window_s: float = WINDOW_S) -> Iterator[tuple[float, float]]:
    """Each sample's moment and the answers a second in the next `window_s`, as long as there are samples."""
    samples, end = timeline.samples, 0
    for moment, answers in samples:
        while end < len(samples) and samples[end][0] < moment + window_s - _ROUNDING:
            end += 1
        if end == len(samples):
            return
        yield moment, (samples[end][1] - answers) / (samples[end][0] - moment)


def _back(timeline: Timeline, cycle: Cycle, worker: str) -> float:
    """The moment from which a victim stayed in service, not before its fault ended."""
    over = cycle.over[worker]
    down = max(_downs(timeline, cycle, worker), default=None)
    if down is None:
        return over
    return max(over, min((up for up, who in timeline.ups if who == worker and up >= down), default=math.inf))


def _downs(timeline: Timeline, cycle: Cycle, worker: str) -> list[float]:
    """Moments at which this fault took a victim out of service: during the fault or soon after, before it was back."""
    over = cycle.over[worker]
    ups = [up for up, who in timeline.ups if who == worker and up >= over]
    until = min(over + LATE_S, cycle.ended, *ups)
    return [moment for moment, who in timeline.downs if who == worker and cycle.began <= moment <= max(over, until)]


def _recovered_at(timeline: Timeline, cycle: Cycle, since: float, least_per_s: float) -> float:
    """The first moment with at least this throughput; infinite: not before the cycle ended."""
    for moment, per_s in throughput(timeline):
        if moment >= since and moment + WINDOW_S <= cycle.ended and per_s >= least_per_s:
            return moment
    return math.inf
