"""What can be asked and commanded of a run, wherever it is: in this process, in another, or stopped on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

PAGE = 50
LARGEST_PAGE = 1000


class RunControl(ABC):
    """A run's steering wheel. What comes back is plain data, the same for a run that goes on and one that is stopped.

    Every method raises QueueError where the queue fails; over the wire also CommError.
    """

    live: ClassVar[bool]
    """Whether a process works on the run."""

    @abstractmethod
    async def stats(self) -> dict[str, Any]:
        """Where the run stands: run_id, directory, state, pid, counts, reasons, stats, intake (docs/control.md)."""

    @abstractmethod
    async def pause(self) -> dict[str, Any]:
        """Hand out nothing more until `resume`; what is in flight ends. Returns `stats`.

        Raises:
            ConfigError: the run is stopped; so do `resume` and `drain`.
        """

    @abstractmethod
    async def resume(self) -> dict[str, Any]:
        """Hand questions out again. Returns `stats`."""

    @abstractmethod
    async def drain(self) -> dict[str, Any]:
        """Have the run end when what is in flight has ended, resumable. Returns `stats`."""

    @abstractmethod
    async def workers(self) -> list[dict[str, Any]]:
        """Each worker: id, address, protocol, state, busy, limit, answered, failed, reason, since (docs/control.md).

        Raises:
            ConfigError: the run is stopped; so do `add_worker` and `remove_worker`.
        """

    @abstractmethod
    async def add_worker(
        self, address: str, *, protocol: str | None = None, worker_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Have the worker at `address` take part; returns `workers`.

        Raises ConfigError, ConnectError, AuthError.
        """

    @abstractmethod
    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> list[dict[str, Any]]:
        """Have a worker leave `at_once`, or by itself once its questions have ended; returns `workers`.

        Raises ConfigError, UnknownAgentError.
        """

    @abstractmethod
    async def dead_letters(self, *, reason: str | None = None, after: int = 0, limit: int = PAGE) -> dict[str, Any]:
        """A page of dead letters, oldest first: `{"dead_letters": [...], "total", "next"}`.

        `reason` is a type of failure; `next` is the `after` of the next page, None on the last one.

        Raises:
            ConfigError: no failure has such a type, or `limit` is not between 1 and 1000.
        """

    @abstractmethod
    async def dead_letter(self, question_id: str) -> dict[str, Any]:
        """One dead letter with its whole question and its `history`. Raises ConfigError: the question is none."""

    @abstractmethod
    async def replay(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """Put dead letters back into the queue, their attempts forgotten; returns how many. Raises ConfigError."""

    @abstractmethod
    async def purge(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """Delete dead letters, questions and all; returns how many. Raises ConfigError."""
