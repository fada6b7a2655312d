"""A storm's figures for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from streaming_queue.failstorm.measures import CycleFigures
from streaming_queue.failstorm.statistics import Estimate
from streaming_queue.failstorm.summary import COUNTS, TIMES, Summary

NEVER = "never"
NONE = "-"
"""Where a fault has no such figure."""


def told(figures: CycleFigures) -> str:
    """One fault's figures in a line."""
    recovery_s = _seconds(figures.recovery_s)
    seen = "" if figures.detection_s is None else f"seen after {_seconds(figures.detection_s)}, from then "
    return f"{seen}throughput back after {recovery_s}, all as before after {_seconds(figures.full_recovery_s)}"


def rows(summaries: Sequence[Summary]) -> list[tuple[str, ...]]:
    """A table: a figure a line, a protocol a column; times as `median (low to high)`."""
    heads = ("", *(summary.protocol for summary in summaries))
    lines = [
        ("cycles", *(f"{summary.cycles:,}" for summary in summaries)),
        ("questions", *(f"{summary.questions:,}" for summary in summaries)),
        ("capacity_per_s", *(f"{summary.capacity_per_s:,.0f}" for summary in summaries)),
        ("offered_per_s", *(f"{summary.offered_per_s:,.0f}" for summary in summaries)),
        *((name, *(_estimate(summary.times[name]) for summary in summaries)) for name in TIMES),
        *((name, *(f"{getattr(summary, name):,}" for summary in summaries)) for name in COUNTS),
    ]
    return [heads, *lines]


def _estimate(found: Estimate | None) -> str:
    return NONE if found is None else f"{_time(found.median)} ({_time(found.low)} to {_time(found.high)})"


def _seconds(value: float) -> str:
    return f"{_time(value)} s" if math.isfinite(value) else NEVER


def _time(value: float) -> str:
    if not math.isfinite(value):
        return NEVER
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
