"""Where the runs of a queue live: the facts of each, and its own queue of questions."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streaming_queue.errors import ConfigError
from streaming_queue.messages import Counts
from streaming_queue.queue.base import RunState, WorkQueue
from streaming_queue.queue.memory import MemoryQueue

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a queue knows of a run without its questions. `created` is in seconds since the epoch.

    `weight` is its share of the workers beside other runs. `stopped`: it gets no leases until it goes on. `counts` and
    `state` are those of the moment when the run's own queue was closed. `counts` is None in the store while that queue
    is open: a process that dies then leaves no counts behind.
    """

    name: str
    weight: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    stopped: bool = False
    state: RunState = "open"
    counts: Counts | None = field(default_factory=Counts)

    @property
    def uid(self) -> str:
        """A name that no other run has, in this queue or another one, at another time or place."""
        return f"{self.name}-{int(self.created * 1_000_000):x}"


class RunStore(ABC):
    """The facts of the runs, durable if the engine is, and their queues."""

    @abstractmethod
    async def all(self) -> list[RunFacts]:
        """The facts of all runs, the oldest first."""

    @abstractmethod
    async def save(self, facts: RunFacts) -> None:
        """Add the facts of a run, or replace them; durable on return."""

    @abstractmethod
    async def open(self, name: str) -> WorkQueue:
        """Open the queue of a run. Leases of an earlier process are void."""

    @abstractmethod
    async def put_away(self, name: str, queue: WorkQueue) -> None:
        """Close the queue of a run that is not used now."""

    @abstractmethod
    async def remove(self, name: str) -> None:
        """Delete a run, its questions and rows. Its queue is closed."""

    @abstractmethod
    async def close(self) -> None:
        """Close the store; all queues are closed."""


class MemoryRunStore(RunStore):
    """Runs in memory, for the life of the process. `make_queue` makes the queue of a new run."""

    def __init__(self, make_queue: Callable[[], MemoryQueue] = MemoryQueue) -> None:
        self._make_queue = make_queue
        self._facts: dict[str, RunFacts] = {}
        self._queues: dict[str, MemoryQueue] = {}

    async def all(self) -> list[RunFacts]:
        """See RunStore."""
        return list(self._facts.values())

    async def save(self, facts: RunFacts) -> None:
        """See RunStore."""
        self._facts[facts.name] = facts

    async def open(self, name: str) -> WorkQueue:
        """See RunStore."""
        if name not in self._queues:
            self._queues[name] = self._make_queue()
        return self._queues[name]

    async def put_away(self, name: str, queue: WorkQueue) -> None:
        """See RunStore: the questions stay in memory."""

    async def remove(self, name: str) -> None:
        """See RunStore."""
        del self._facts[name]
        self._queues.pop(name, None)

    async def close(self) -> None:
        """See RunStore."""
        for queue in self._queues.values():
            await queue.close()


def check_name(name: str) -> str:
    """A run's name, which is a file name and a part of URLs. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:100]!r} is no name of a run: give up to 100 letters, digits, `.`, `_` and `-`, and begin with a "
            "letter or a digit"
        )
    return name
