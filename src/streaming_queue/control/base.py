"""The commands of a run, which is in this process, in another process, or stopped on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

PAGE = 50
LARGEST_PAGE = 1000

T = TypeVar("T")


class RunControl(ABC):
    """The commands of a run. They return plain data, the same for a live run and for a stopped run.

    A subclass overrides each command, or carries out all commands in `_command`.
    Every method raises QueueError if the queue fails; over the wire also CommError.
    """

    live: ClassVar[bool]
    """Whether a process works on the run."""

    @abstractmethod
    async def _command(self, kind: type[T], command: str, **arguments: object) -> T:
        """Carry out a command whose result is a `kind`."""

    async def stats(self) -> dict[str, Any]:
        """The state of the run: run_id, directory, state, pid, counts, reasons, stats, intake (docs/control.md)."""
        return await self._command(dict, "stats")

    async def pause(self) -> dict[str, Any]:
        """Hand out no more questions until `resume`; the questions in flight end. Returns `stats`.

        Raises:
            ConfigError: the run is stopped; `resume` and `drain` raise it too.
        """
        return await self._command(dict, "pause")

    async def resume(self) -> dict[str, Any]:
        """Hand out questions again. Returns `stats`."""
        return await self._command(dict, "resume")

    async def drain(self) -> dict[str, Any]:
        """End the run when the questions in flight have ended; the run can be resumed. Returns `stats`."""
        return await self._command(dict, "drain")

    async def workers(self) -> list[dict[str, Any]]:
        """Each worker: id, address, protocol, state, busy, limit, answered, failed, reason, since (docs/control.md).

        Raises:
            ConfigError: the run is stopped; `add_worker` and `remove_worker` raise it too.
        """
        return await self._command(list, "workers")

    async def add_worker(
        self, address: str, *, protocol: str | None = None, worker_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Add the worker at `address` to the run; returns `workers`.

        Raises ConfigError, ConnectError, AuthError.
        """
        return await self._command(list, "add_worker", address=address, protocol=protocol, worker_id=worker_id)

    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> list[dict[str, Any]]:
        """Remove a worker `at_once`, or when its questions have ended; returns `workers`.

        Raises ConfigError, UnknownAgentError.
        """
        return await self._command(list, "remove_worker", worker_id=worker_id, at_once=at_once)

    async def dead_letters(self, *, reason: str | None = None, after: int = 0, limit: int = PAGE) -> dict[str, Any]:
        """A page of dead letters, oldest first: `{"dead_letters": [...], "total", "next"}`.

        `reason` is a type of failure; `next` is the `after` of the next page, None on the last page.

        Raises:
            ConfigError: no failure has such a type, or `limit` is not between 1 and 1000.
        """
        return await self._command(dict, "dead_letters", reason=reason, after=after, limit=limit)

    async def dead_letter(self, question_id: str) -> dict[str, Any]:
        """One dead letter with its whole question and its `history`. Raises ConfigError if it is no dead letter."""
        return await self._command(dict, "dead_letter", question_id=question_id)

    async def replay(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """Put dead letters back into the queue without their attempts; returns their number. Raises ConfigError."""
        return await self._command(int, "replay", ids=ids, reason=reason)

    async def purge(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """Delete dead letters with their questions; returns their number. Raises ConfigError."""
        return await self._command(int, "purge", ids=ids, reason=reason)
