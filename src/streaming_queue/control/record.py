"""A run's record as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from streaming_queue.control.base import LARGEST_PAGE
from streaming_queue.errors import ERRORS_BY_CODE, ConfigError
from streaming_queue.messages import Failure, Outcome
from streaming_queue.queue.base import Attempt, Record
from streaming_queue.report.run_directory import RunDirectory

REASONS = frozenset(error.__name__ for error in ERRORS_BY_CODE.values())
"""The types of failure that a dead letter may have; a backend may bring subclasses of its own."""


async def stats(record: Record, directory: RunDirectory, *, state: str, pid: int | None) -> dict[str, Any]:
    """See `RunControl.stats`."""
    counts = await record.counts()
    mark: Mapping[str, Any] = await record.bookmark() or {}
    return {
        "run_id": directory.run_id,
        "directory": str(directory.path),
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


async def dead_letters(record: Record, *, reason: str | None, after: int, limit: int) -> dict[str, Any]:
    """See `RunControl.dead_letters`."""
    if not 1 <= limit <= LARGEST_PAGE:
        raise ConfigError(f"a page has 1 to {LARGEST_PAGE} dead letters, not {limit}")
    await check_reason(record, reason)
    reasons = await record.reasons()
    found = await record.dead(limit + 1, after=after, failure_type=reason)
    page = found[:limit]
    return {
        "dead_letters": [_letter(outcome) for outcome in page],
        "total": sum(reasons.values()) if reason is None else reasons.get(reason, 0),
        "next": page[-1].number if len(found) > limit else None,
    }


async def dead_letter(record: Record, directory: RunDirectory, question_id: str) -> dict[str, Any]:
    """See `RunControl.dead_letter`."""
    outcome = await record.dead_letter(question_id)
    if outcome is None:
        raise ConfigError(
            f"question {question_id!r} is no dead letter of {directory.path}; `stq dlq list` shows those there are"
        )
    question, history = outcome.question, await record.attempts(question_id)
    return _letter(outcome) | {
        "question": question.text,
        "reference": question.reference,
        "history": [_attempt(attempt) for attempt in history],
    }


async def check_reason(record: Record, reason: str | None) -> None:
    """Raise ConfigError, naming the types of failure, where `reason` is none."""
    if reason is None or reason in REASONS or reason in (present := await record.reasons()):
        return
    here = ", ".join(present) or "none, there are no dead letters"
    known = ", ".join(sorted(REASONS))
    raise ConfigError(
        f"--reason: no failure is of type {reason!r}. The types here: {here}. All that are known: {known}"
    )


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


def _attempt(attempt: Attempt) -> dict[str, Any]:
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
