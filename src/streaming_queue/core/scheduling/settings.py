"""The settings of a scheduler."""

from __future__ import annotations

from collections.abc import Mapping

from streaming_queue.config.network import Scheduler


class SchedulerSettings(Scheduler):
    """The settings of one run: the section `scheduler` of its configuration, and further settings.

    `batch_size` is the number of leases that the scheduler takes at a time and keeps ahead of the slots. `slots` is the
    most questions in flight at a worker, `concurrency` the number for a worker that is not in `slots`. With `adaptive`
    the number is an upper limit, and the scheduler finds the best number for a worker.
    """

    concurrency: int = 8
    slots: Mapping[str, int] = {}
    adaptive: bool = False
    batch_size: int = 64
    probe_interval_s: float = 1.0

    def slots_of(self, worker_id: str) -> int:
        """The most questions in flight at a worker."""
        return self.slots.get(worker_id, self.concurrency)
