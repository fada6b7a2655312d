"""The settings of a scheduler."""

from __future__ import annotations

from collections.abc import Mapping

from streaming_queue.config.network import Scheduler


class SchedulerSettings(Scheduler):
    """The rules of one run: the section `scheduler` of its configuration, and what the scheduler needs beside it.

    `batch_size` is how many leases the scheduler takes and keeps ahead of the slots. `slots` is how many questions may
    be in flight at a worker, `concurrency` the number for a worker that is not in `slots`. With `adaptive` that number
    is the most, and the scheduler finds out how many questions a worker takes best.
    """

    concurrency: int = 8
    slots: Mapping[str, int] = {}
    adaptive: bool = False
    batch_size: int = 64
    probe_interval_s: float = 1.0

    def slots_of(self, worker_id: str) -> int:
        """How many questions may be in flight at a worker."""
        return self.slots.get(worker_id, self.concurrency)
