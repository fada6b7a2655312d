"""The plan of a storm: its fault, its workers, its cycles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from streaming_queue.errors import ConfigError


class Fault(StrEnum):
    """Faults of a worker."""

    kill = "kill"
    stop = "stop"
    blackhole = "blackhole"
    slow = "slow"
    flap = "flap"

    @property
    def in_the_network(self) -> bool:
        """Whether the network before the worker fails, not the worker itself."""
        return self not in (Fault.kill, Fault.stop)

    @property
    def resets(self) -> bool:
        """Whether connections break, so that the fault is seen at once."""
        return self in (Fault.kill, Fault.flap)

    @property
    def is_seen(self) -> bool:
        """Whether the worker must be taken out of service; not if it is only slow (docs/adr/0012)."""
        return self is not Fault.slow


@dataclass(frozen=True, slots=True)
class Plan:
    """A storm: each of `cycles` faults hits `kill` of `workers`, at least `every_s` after the last one.

    A killed worker is started again at once; other faults last `every_s`. A worker has `slots` questions in flight, and
    each answer takes `latency_ms`. `load` is the share of the measured capacity that is asked. `seed` chooses victims.
    """

    workers: int = 8
    kill: int = 3
    every_s: float = 5.0
    cycles: int = 30
    fault: Fault = Fault.kill
    slots: int = 4
    latency_ms: float = 200.0
    load: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError if a fault hits all workers."""
        if self.kill >= self.workers:
            raise ConfigError(f"--kill {self.kill} of --workers {self.workers} leaves no worker: kill fewer")

    @property
    def at_once(self) -> int:
        """Most questions in flight."""
        return self.workers * self.slots

    def __str__(self) -> str:
        return f"{self.fault} {self.kill} of {self.workers} workers, {self.cycles} times, every {self.every_s:g} s"
