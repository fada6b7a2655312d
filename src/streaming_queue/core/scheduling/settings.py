"""What the scheduler may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """The rules of one round. `batch_size` is how many leases are taken and kept ahead of the slots.

    `slots` is how many questions may be in flight at a worker, `concurrency` where it names none; with `adaptive` that
    is the most, and how many it takes best is found out. No answer within `attempt_timeout_s` is a failed attempt, none
    within `question_timeout_s` of the first asking the end of a question. `retry_share` and `retry_per_s` are the
    budget of retries. `hedge` asks the slow ones elsewhere, too, once nothing else is left to ask. A worker without a
    sign of life for `gone_after_s` is taken to have lost its questions.
    """

    concurrency: int = 8
    slots: Mapping[str, int] = field(default_factory=dict)
    adaptive: bool = False
    batch_size: int = 64
    max_attempts: int = 5
    attempt_timeout_s: float | None = None
    question_timeout_s: float | None = None
    retry_base_s: float = 0.1
    retry_cap_s: float = 5.0
    retry_share: float = 0.1
    retry_per_s: float = 3.0
    hedge: bool = False
    no_worker_timeout_s: float = 30.0
    drain_s: float = 30.0
    lease_s: float = 60.0
    probe_interval_s: float = 1.0
    gone_after_s: float = 10.0

    def slots_of(self, worker_id: str) -> int:
        """How many questions may be in flight at a worker."""
        return self.slots.get(worker_id, self.concurrency)
