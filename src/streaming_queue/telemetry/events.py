"""Typed events. The core emits them; terminal, metrics and tests only listen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from streaming_queue.messages import Counts, Failure, Result
from streaming_queue.record import record

logger = logging.getLogger(__name__)


@record
class Event:
    """Root of all events."""


@record
class RunStarted(Event):
    """A run begins, or continues after a restart (`resumed`). `concurrency` limits the questions in flight."""

    run_id: str
    workers: tuple[str, ...]
    concurrency: int
    resumed: bool
    counts: Counts


@record
class Queued(Event):
    """A batch of questions is durable in the queue."""

    added: int
    known: int
    total: int


@record
class IntakeFinished(Event):
    """The intake ended: `questions` were stored, `skipped` lines were unusable."""

    questions: int
    skipped: int
    duplicates: int


@record
class Notice(Event):
    """A message for the terminal, such as a skipped line or a renamed id. `level` is info, warning or error."""

    level: str
    text: str


@record
class Sent(Event):
    """A question was sent to a worker."""

    question_id: str
    worker: str
    attempt: int


@record
class Hedged(Event):
    """A slow question was sent to a second worker too; the first answer counts."""

    question_id: str
    worker: str


@record
class Answered(Event):
    """The answer of a question is durably recorded."""

    question_id: str
    result: Result
    attempt: int


@record
class Duplicate(Event):
    """A later answer of a question came; it was not stored."""

    question_id: str
    worker: str


@record
class Retried(Event):
    """An attempt failed; the question is back in the queue. `counted`: it used up an attempt."""

    question_id: str
    failure: Failure
    attempt: int
    counted: bool


@record
class DeadLettered(Event):
    """A question became a dead letter."""

    question_id: str
    failure: Failure
    attempt: int


@record
class Paused(Event):
    """The run gives no question to a worker until `Continued`; questions in flight end. `directory` is the run's."""

    directory: str


@record
class Continued(Event):
    """The run gives questions to workers again."""


@record
class Replayed(Event):
    """Dead letters are back in the queue."""

    count: int


@record
class Purged(Event):
    """Dead letters were deleted."""

    count: int


@record
class WorkerDown(Event):
    """A worker takes no questions until it is healthy again; `final`: not again in this run."""

    worker: str
    reason: str
    final: bool = False


@record
class WorkerUp(Event):
    """A worker is healthy again."""

    worker: str


@record
class Waiting(Event):
    """The run can only wait until `WaitOver`; `text` says since when, for what, and what ends the wait."""

    text: str


@record
class WaitOver(Event):
    """A worker takes questions again."""


@record
class WorkerJoined(Event):
    """A worker joined the run."""

    worker: str


@record
class WorkerLeft(Event):
    """A worker left the run; its questions ended or went to other workers."""

    worker: str


@record
class RunFinished(Event):
    """A run ended; `state` is done, stopped or failed, `summary` the figures that `run.json` keeps."""

    state: str
    counts: Counts
    summary: Mapping[str, Any]


EventListener = Callable[[Event], None]
"""Takes an event without blocking or waiting."""


def fan_out(listeners: Iterable[EventListener]) -> EventListener:
    """One listener that passes events to all `listeners`, in order. It logs their errors and raises none."""
    receivers = tuple(listeners)

    def emit(event: Event) -> None:
        for listener in receivers:
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed on %s", type(event).__name__)

    return emit
