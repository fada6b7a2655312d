"""A run's record as plain data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

from streaming_queue.control.base import LARGEST_PAGE, PAGE, RunControl
from streaming_queue.errors import ERRORS_BY_CODE, ConfigError
from streaming_queue.messages import Failure, Outcome
from streaming_queue.queue.base import AttemptRecord, Record, WorkQueue
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.telemetry.events import Purged, Replayed

REASONS = frozenset(error.__name__ for error in ERRORS_BY_CODE.values())
"""The types of failure that a dead letter may have; a backend may bring subclasses of its own."""

_VERBS = {"workers": "list workers of", "add_worker": "join", "remove_worker": "leave"}

T = TypeVar("T")
Change = Callable[[WorkQueue], Awaitable[int]]


class RecordControl(RunControl):
    """The commands that need only the record of the run in `directory`. All other commands are refused."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    @abstractmethod
    def _record(self) -> AbstractAsyncContextManager[Record]:
        """Open the record for reading."""

    @abstractmethod
    async def _change(self, change: Change, event: type[Replayed | Purged], reason: str | None) -> int:
        """Apply `change` to the queue if `_any` finds dead letters; returns the number of changed ones."""

    async def _command(self, kind: type[T], command: str, **arguments: object) -> T:
        del kind, arguments
        path, verb = self._directory.path, _VERBS.get(command, command)
        if self._directory.manifest["state"] == "done":
            raise ConfigError(f"{path}: the run is done, there is nothing to {verb}")
        raise ConfigError(
            f"{path}: no process works on the run, there is nothing to {verb}; `stq resume {path}` goes on with it"
        )

    async def _stats(self, *, state: str, pid: int | None) -> dict[str, Any]:
        async with self._record() as record:
            counts = await record.counts()
            mark: Mapping[str, Any] = await record.bookmark() or {}
            return {
                "run_id": self._directory.run_id,
                "directory": str(self._directory.path),
                "state": state,
                "pid": pid,
                "counts": asdict(counts) | {"total": counts.total},
                "reasons": await record.reasons(),
                "stats": await record.stats(),
                "intake": {
                    "complete": mark.get("complete", False),
                    "questions": mark.get("questions", 0),
                    "skipped": mark.get("skipped", 0),
                    "duplicates": mark.get("duplicates", 0),
                },
            }

    async def dead_letters(self, *, reason: str | None = None, after: int = 0, limit: int = PAGE) -> dict[str, Any]:
        """See RunControl."""
        if not 1 <= limit <= LARGEST_PAGE:
            raise ConfigError(f"a page has 1 to {LARGEST_PAGE} dead letters, not {limit}")
        async with self._record() as record:
            reasons = await _reasons(record, reason)
            found = await record.dead(limit + 1, after=after, failure_type=reason)
        page = found[:limit]
        return {
            "dead_letters": [_letter(outcome) for outcome in page],
            "total": sum(reasons.values()) if reason is None else reasons.get(reason, 0),
            "next": page[-1].number if len(found) > limit else None,
        }

    async def dead_letter(self, question_id: str) -> dict[str, Any]:
        """See RunControl."""
        async with self._record() as record:
            outcome = await record.dead_letter(question_id)
            history = await record.attempts(question_id)
        if outcome is None:
            raise ConfigError(
                f"question {question_id!r} is not a dead letter of {self._directory.path}; `stq dlq list` lists them"
            )
        return _letter(outcome) | {
            "question": outcome.question.text,
            "reference": outcome.question.reference,
            "history": [_attempt(attempt) for attempt in history],
        }

    async def replay(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """See RunControl."""
        return await self._change(lambda queue: queue.replay(ids=ids, failure_type=reason), Replayed, reason)

    async def purge(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """See RunControl."""
        return await self._change(lambda queue: queue.purge(ids=ids, failure_type=reason), Purged, reason)

    async def _any(self, reason: str | None) -> bool:
        """Whether there are dead letters. Raises ConfigError if `reason` is no type of failure."""
        async with self._record() as record:
            return bool(await _reasons(record, reason))


async def _reasons(record: Record, reason: str | None) -> dict[str, int]:
    """The number of dead letters by type of failure. Raises ConfigError if `reason` is no such type."""
    present = await record.reasons()
    if reason is None or reason in REASONS or reason in present:
        return present
    here = ", ".join(present) or "none, there are no dead letters"
    known = ", ".join(sorted(REASONS))
    raise ConfigError(f"--reason: no failure is of type {reason!r}. Types in this run: {here}. Known types: {known}")


def _letter(outcome: Outcome) -> dict[str, Any]:
    failure = outcome.failure or Failure("", "")
    return {
        "number": outcome.number,
        "question_id": outcome.question.id,
        "reason": failure.type,
        "message": failure.message,
        "worker": failure.worker,
        "protocol": failure.protocol,
        "attempts": outcome.attempts,
        "timestamp": _time(outcome.settled_at),
    }


def _attempt(attempt: AttemptRecord) -> dict[str, Any]:
    failure = attempt.failure
    return {
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "worker": attempt.worker,
        "protocol": attempt.protocol,
        "started": None if attempt.started is None else _time(attempt.started),
        "ended": _time(attempt.ended),
        "error": {"type": failure.type, "message": failure.message} if failure else None,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
