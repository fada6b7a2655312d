"""Recorded storms, made up."""

from __future__ import annotations

from collections.abc import Iterable

from streaming_queue.failstorm.timeline import Cycle, Timeline

WORKERS = ("W1", "W2", "W3", "W4")


def timeline(
    *,
    pace: Iterable[tuple[float, float]] = (),
    cycles: Iterable[Cycle] = (),
    downs: Iterable[tuple[float, str]] = (),
    ups: Iterable[tuple[float, str]] = (),
    waits: Iterable[tuple[float, float]] = (),
    capacity_per_s: float = 200.0,
    offered_per_s: float = 100.0,
    until: float = 20.0,
) -> Timeline:
    """Ten samples a second; `pace` is from when on how many answers a second are recorded, 100 at first."""
    changes = [(0.0, 100.0), *pace]
    samples, answers = [], 0.0
    for number in range(int(until * 10) + 1):
        moment = number / 10
        samples.append((moment, round(answers)))
        answers += [per_s for since, per_s in changes if since <= moment + 1e-9][-1] / 10
    return Timeline(WORKERS, capacity_per_s, offered_per_s, samples, list(downs), list(ups), list(waits), list(cycles))
