"""What a round knows of one worker."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import datetime

from streaming_queue.core.pool.adaptive_limit import AdaptiveLimit
from streaming_queue.core.pool.breaker import Breaker
from streaming_queue.errors import StreamingQueueError

SLOW_START_S = 10.0


@dataclass(slots=True)
class WorkerHealth:
    """One worker; moments are the monotonic clock's.

    It is left alone until `paused_until`, `ejected` where that is for its failures. `strikes` counts the times it was
    lost without an answer in between; `out` is why it is out for good. `reason` is why it is not up, `since` when.
    `busy` questions are under way at it, `seen_at` it last showed a sign of life, `probed_at` answered
    its probe, `began_anew` it came back and was not given all its slots since; `proven` are its answers since then,
    `answers` and `failures` all there were. `draining`: it is asked nothing more, and leaves.
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
        """In a word: up, down, paused, out or draining."""
        if self.draining:
            return "draining"
        if self.up:
            return "up"
        return "out" if self.out is not None else "paused" if self.paused_until is not None else "down"

    def limit(self, *, spared: bool) -> int:
        """How many questions it may have at a time now; `spared`: others can take what it is not given yet.

        One that came back has one slot more for each answer, and all after ten seconds.
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
