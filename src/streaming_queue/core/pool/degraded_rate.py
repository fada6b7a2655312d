"""The degraded rate of a pool if all workers keep failing, for example because a provider is down."""

from __future__ import annotations

PAUSE_S = 0.25
LONGEST_S = 2.0


class DegradedRate:
    """Each failing worker gets one question at a time, and then all pause: an outage costs few questions an attempt.

    The pause is `pause_s` times the number of such workers, 2 s at most. A worker that answers gets its full rate
    again.
    """

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._workers: set[str] = set()
        self._resting = False

    def __len__(self) -> int:
        """The number of workers at the degraded rate."""
        return len(self._workers)

    def begin(self, worker_id: str) -> bool:
        """Set a worker to the degraded rate; returns whether it is the first such worker."""
        before = len(self._workers)
        self._workers.add(worker_id)
        return not before

    def end(self, worker_id: str) -> bool:
        """Set a worker to its full rate; returns whether it was degraded."""
        was_degraded = worker_id in self._workers
        self._workers.discard(worker_id)
        return was_degraded

    def takes(self, worker_id: str, busy: int) -> bool:
        """Whether a worker with `busy` questions in flight may get another now."""
        return worker_id not in self._workers or (not busy and not self._resting)

    def asked(self, worker_id: str) -> float | None:
        """Note a sent question; returns the seconds until `rested` must be called, None if no call is due."""
        if worker_id not in self._workers or self._resting:
            return None
        self._resting = True
        return min(self._pause_s * len(self._workers), LONGEST_S)

    def rested(self) -> None:
        """End the pause."""
        self._resting = False
