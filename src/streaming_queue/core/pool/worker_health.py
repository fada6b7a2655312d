"""The state of one worker in a run."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from streaming_queue.core.pool.adaptive_limit import AdaptiveLimit
from streaming_queue.core.pool.breaker import Breaker
from streaming_queue.errors import StreamingQueueError

SLOW_START_S = 10.0


@dataclass(slots=True)
class WorkerHealth:
    """One worker; times are of the monotonic clock.

    The worker gets no questions until `paused_until`; `ejected` says that its failures are the cause. `strikes` counts
    its losses without an answer in between. `out` is the reason if the worker is out; `reason`, `since` and `down_at`
    are the reason and the time if it is not up. `busy` questions are in flight. `seen_at` is the last sign of life,
    `probed_at` the last good probe. `began_anew` is the time of the worker's return, until it has all its slots again;
    `proven` counts its answers since then, `answers` and `failures` all its attempts. A `draining` worker gets no more
    questions and then leaves.
    """

    worker_id: str
    slots: int = 1
    up: bool = True
    draining: bool = False
    paused_until: float | None = None
    ejected: bool = False
    strikes: int = 0
    out: StreamingQueueError | None = None
    reason: str | None = None
    since: datetime | None = None
    down_at: float | None = None
    busy: int = 0
    seen_at: float = field(default_factory=time.monotonic)
    probed_at: float = -math.inf
    began_anew: float | None = None
    proven: int = 0
    answers: int = 0
    failures: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    adaptive: AdaptiveLimit | None = None

    @property
    def state(self) -> str:
        """One word: up, down, paused, out or draining."""
        if self.draining:
            return "draining"
        if self.up:
            return "up"
        return "out" if self.out is not None else "paused" if self.paused_until is not None else "down"

    def figures(self, *, spared: bool) -> dict[str, Any]:
        """The worker's figures; see `WorkerPool.states`."""
        return {
            "state": self.state,
            "busy": self.busy,
            "limit": self.limit(spared=spared),
            "answered": self.answers,
            "failed": self.failures,
            "reason": self.reason,
            "since": None if self.since is None else self.since.isoformat(timespec="milliseconds"),
        }

    def limit(self, *, spared: bool) -> int:
        """The number of questions that the worker may have now; `spared`: other workers can take the rest.

        A worker that came back gets one more slot for each answer, and all slots after ten seconds.
        """
        limit = self.slots if self.adaptive is None else self.adaptive.limit
        if self.began_anew is None:
            return limit
        if self.breaker.half_open:
            return 1
        share = (time.monotonic() - self.began_anew) / SLOW_START_S
        given = max(1 + self.proven, math.ceil(share * limit))
        if given >= limit:
            self.began_anew = None
            return limit
        return given if spared else limit
