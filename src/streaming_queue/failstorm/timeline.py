"""The record of a storm. Figures and plot are computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Cycle:
    """A fault at some workers. `over` has the moment at which the fault of each of them ended.

    `ended` is the moment of the next fault, or the end of the storm.
    """

    began: float
    over: Mapping[str, float]
    ended: float


@dataclass(slots=True)
class Timeline:
    """Moments are seconds since the steady load began.

    All workers together answered `capacity_per_s`; `offered_per_s` was asked. `samples` are moments and the answers
    recorded until then. `downs` and `ups` are the moments at which a worker was taken out of service and put back.
    `waits` has for each answered question the moment at which it was due and the seconds until its answer was recorded.
    """

    workers: tuple[str, ...]
    capacity_per_s: float = 0.0
    offered_per_s: float = 0.0
    samples: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, str]] = field(default_factory=list)
    ups: list[tuple[float, str]] = field(default_factory=list)
    waits: list[tuple[float, float]] = field(default_factory=list)
    cycles: list[Cycle] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return asdict(self)
