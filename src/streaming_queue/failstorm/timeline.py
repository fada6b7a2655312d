"""What was seen of a storm: all that its figures and its plot are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cycle:
    """A fault at some workers. `over` says for each when nothing was wrong with it any more.

    `ended` is when the next fault comes, or the storm is over.
    """

    began: float
    over: Mapping[str, float]
    ended: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Moments are seconds since the steady load began.

    `capacity_per_s` is what all workers together answered in a second, `offered_per_s` what was asked. `samples` are
    moments and the answers recorded until then. In `downs` and `ups` a worker was taken out of service and back.
    `waits` has for each question that was answered the moment at which it was due and the seconds until its answer was
    recorded.
    """

    workers: tuple[str, ...]
    capacity_per_s: float
    offered_per_s: float
    samples: tuple[tuple[float, int], ...]
    downs: tuple[tuple[float, str], ...]
    ups: tuple[tuple[float, str], ...]
    waits: tuple[tuple[float, float], ...]
    cycles: tuple[Cycle, ...]

    def record(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return asdict(self)
