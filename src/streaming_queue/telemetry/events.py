"""What happened, as typed events. The core emits them; terminal, metrics and tests listen, no more."""

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
class RoundStarted(Event):
    """A round begins, or goes on after a restart (`resumed`). `concurrency`: questions in flight at the most."""

    round_id: str
    workers: tuple[str, ...]
    concurrency: int
    resumed: bool
    counts: Counts


@record
class Queued(Event):
    """A batch of questions is durably in the queue."""

    added: int
    known: int
    total: int


@record
class IntakeFinished(Event):
    """The source is read to its end (or kept as far as it was read): `questions` stored, `skipped` unusable lines."""

    questions: int
    skipped: int
    duplicates: int


@record
class Notice(Event):
    """Something a person should read: a skipped line, a renamed id. `level` is info, warning or error."""

    level: str
    text: str


@record
class Sent(Event):
    """A question left for a worker."""

    question_id: str
    worker: str
    attempt: int


@record
class Hedged(Event):
    """A question that takes long at its worker is asked of another, too; the first answer counts."""

    question_id: str
    worker: str


@record
class Answered(Event):
    """A question's answer is durably recorded."""

    question_id: str
    result: Result
    attempt: int


@record
class Duplicate(Event):
    """An answer came after another had been recorded; it was not stored."""

    question_id: str
    worker: str


@record
class Retried(Event):
    """An attempt failed; the question is back in the queue. `counted` says whether it used up an attempt."""

    question_id: str
    failure: Failure
    attempt: int
    counted: bool


@record
class Buried(Event):
    """A question went to the dead letters."""

    question_id: str
    failure: Failure
    attempt: int


@record
class Paused(Event):
    """Nothing more is handed out until `Continued`, or a command for `directory`; what is in flight ends."""

    directory: str


@record
class Continued(Event):
    """Questions are handed out again."""


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
    """A worker takes no questions until it is healthy again; `final` when it will not be asked again in this round."""

    worker: str
    reason: str
    final: bool = False


@record
class WorkerUp(Event):
    """A worker is healthy again."""

    worker: str


@record
class WorkerJoined(Event):
    """A worker takes part from now on."""

    worker: str


@record
class WorkerLeft(Event):
    """A worker takes part no longer; its questions have ended, or went elsewhere."""

    worker: str


@record
class RoundFinished(Event):
    """A round ended; `state` is done, stopped or failed, `summary` the figures that `run.json` keeps."""

    state: str
    counts: Counts
    summary: Mapping[str, Any]


Listener = Callable[[Event], None]
"""Takes an event, at once: no blocking, no waiting."""


def fan_out(listeners: Iterable[Listener]) -> Listener:
    """One listener that tells all of `listeners`, in order. One that raises is logged; the work it hears of goes on."""
    told = tuple(listeners)

    def emit(event: Event) -> None:
        for listener in told:
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed on %s", type(event).__name__)

    return emit
