"""The shapes that travel: mappings at the seam (what a backend author types), frozen dataclasses inside. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import NoneType
from typing import Any, ClassVar, Final, Literal, NotRequired, TypedDict, TypeGuard

import orjson

from streaming_queue.cursor import make_cursor
from streaming_queue.errors import FailureEvent, StreamingQueueError
from streaming_queue.record import record


class TextPart(TypedDict):
    """One part of a message, in A2A's older notation."""

    kind: Literal["text"]
    text: str


class Payload(TypedDict, total=False):
    """What `send` takes: `text` or `parts`, and what rides along."""

    text: str
    parts: list[TextPart]
    metadata: dict[str, Any]


class ReplyMetadata(TypedDict, total=False):
    """What an agent says about its work. It may send other keys, too: a class that extends this one types them.

    No key is sure, and a peer may send any value: the reader of a value checks its type.
    `llm_ms` is the model's time and `ttft_ms` the time until its first piece, in milliseconds; `usage` counts tokens;
    `mock` says that no model answered, `truncated` that a limit of tokens ended the answer. A coordinator sends the
    rest, its `figures`: the counts are numbers of questions, `round_id` and `directory` name the run, `waiting` says
    why it can only wait, `error` is the failure that ended it, `summary` its result.
    """

    llm_ms: float
    ttft_ms: float
    usage: Mapping[str, Any]
    model: str
    mock: bool
    truncated: bool
    state: str
    done: int
    failed: int
    total: int
    round_id: str | None
    directory: str
    waiting: str
    error: FailureEvent
    summary: Mapping[str, Any] | None


class Reply(TypedDict):
    """What `send` returns: the native response, the main text, and what the agent said about its work."""

    raw: Any
    text: str
    metadata: NotRequired[ReplyMetadata]
    error: NotRequired[StreamingQueueError]


class Delta(TypedDict):
    """A piece of the answer."""

    type: Literal["agent_text_delta"]
    data: str


class Status(TypedDict):
    """A word on the agent's progress, and its figures."""

    type: Literal["agent_status"]
    data: str
    metadata: NotRequired[ReplyMetadata]


class Message(TypedDict):
    """The whole answer, and what the agent says about its work. It ends the stream."""

    type: Literal["agent_text_message"]
    data: str
    metadata: NotRequired[ReplyMetadata]


TextEvent = Delta | Status | Message
"""An event that carries text: each event but the failure."""
End = Message | FailureEvent
"""The event that ends an answer."""
StreamEvent = TextEvent | FailureEvent
"""One event of an answer. `type` tells which; a plain dictionary of the same shape is one, too."""

DELTA: Final = "agent_text_delta"
STATUS: Final = "agent_status"
MESSAGE: Final = "agent_text_message"
ERROR: Final = "agent_error"


def is_event(document: object) -> TypeGuard[TextEvent]:
    """Whether a document from a wire has the shape of an event that is no failure."""
    return (
        isinstance(document, dict)
        and document.get("type") in (DELTA, MESSAGE, STATUS)
        and isinstance(document.get("data"), str)
        and isinstance(document.get("metadata"), (dict, NoneType))
    )


def is_metadata(document: object) -> TypeGuard[ReplyMetadata]:
    """Whether a document from a wire is an object; its values stay unchecked."""
    return isinstance(document, dict)


def answer_event(reply: Reply) -> Message:
    """The event that ends a stream with this reply."""
    event: Message = {"type": MESSAGE, "data": reply["text"]}
    if metadata := reply.get("metadata"):
        event["metadata"] = metadata
    return event


def reply_of(event: TextEvent) -> Reply:
    """The reply that this event is; `raw` is the event."""
    reply = Reply(raw=event, text=event["data"])
    if event["type"] != DELTA and (metadata := event.get("metadata")):
        reply["metadata"] = metadata
    return reply


def payload_text(payload: Mapping[str, Any]) -> str:
    """The text of a payload: `text`, else its text parts joined by newlines, else the empty string."""
    text = payload.get("text")
    if isinstance(text, str):
        return text
    parts = payload.get("parts") or ()
    return "\n".join(str(part.get("text", "")) for part in parts if part.get("kind", "text") == "text")


MAX_QUESTION_BYTES = 1_000_000
"""The longest question: its text as a JSON string, in UTF-8. With the rest of a message it fits into 1 MiB."""


def is_too_long(text: str) -> bool:
    """Whether a text is over `MAX_QUESTION_BYTES`, and so not every protocol carries it."""
    # JSON needs six bytes for a character at most: short texts need no encoding.
    return len(text) * 6 > MAX_QUESTION_BYTES and len(orjson.dumps(text)) > MAX_QUESTION_BYTES


@record
class Question:
    """One question. `id` is None until the queue names it; `reference` is the expected answer, where one is known."""

    text: str
    id: str | None = None
    reference: str | None = None


@record
class Result:
    """One answer and what it cost, as the coordinator measured it. A time that nobody measured is None, never 0.

    `response_time_s` runs from sending to the whole answer. `queue_ms` is the wait from the moment the question
    could have been leased, `llm_ms` and `ttft_ms` are the worker's own figures, and `protocol_ms` is the rest of the
    response time: what the protocol cost. Bytes count the UTF-8 text of question and answer. `truncated` is True if the
    worker says that a limit of tokens ended the answer.
    """

    answer: str
    worker: str
    protocol: str
    response_time_s: float
    queue_ms: float | None = None
    protocol_ms: float | None = None
    llm_ms: float | None = None
    ttft_ms: float | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    model: str | None = None
    mock: bool | None = None
    usage: Mapping[str, Any] | None = None
    truncated: bool | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt, or in the end a question, failed. `type` is the name of the error's class."""

    type: str
    message: str
    worker: str | None = None
    protocol: str | None = None
    response_time_s: float | None = None

    @classmethod
    def of(
        cls,
        error: BaseException,
        *,
        worker: str | None = None,
        protocol: str | None = None,
        response_time_s: float | None = None,
    ) -> Failure:
        """The failure that `error` describes."""
        return cls(type(error).__name__, str(error), worker, protocol, response_time_s)


@record
class Outcome:
    """The newest record of one question: a result, the failure of a dead letter, or that the dead letter is no more.

    `number` grows with each record, so that a reader can go on after the last one it saw; `log` names the queue that
    counts. `supersedes` is the number of the record that this one replaces. `purged`: the question was deleted.
    `settled_at` is seconds since the epoch.
    """

    number: int
    question: Question
    attempts: int
    settled_at: float
    result: Result | None = None
    failure: Failure | None = None
    supersedes: int | None = None
    purged: bool = False
    log: str = ""

    @property
    def status(self) -> str:
        """`success`, `failed` (a dead letter), `open` (a dead letter was replayed) or `purged` (one was deleted)."""
        if self.result:
            return "success"
        return "failed" if self.failure else "purged" if self.purged else "open"

    @property
    def has_ended(self) -> bool:
        """Whether the question has an end: an answer or a failure."""
        return self.result is not None or self.failure is not None

    def row(self) -> dict[str, Any]:
        """The row of `results.jsonl`: the same keys in every row, None where nothing is known.

        `response_time` is in seconds, `timestamp` in UTC (ISO 8601), `error` is `{"type", "message"}`.
        """
        result, failure = self.result, self.failure
        seconds = result.response_time_s if result else failure.response_time_s if failure else None
        return {
            "question_id": self.question.id,
            "question": None if self.purged else self.question.text,
            "reference": self.question.reference,
            "answer": result.answer if result else None,
            "status": self.status,
            "worker": result.worker if result else failure.worker if failure else None,
            "protocol": result.protocol if result else failure.protocol if failure else None,
            "attempts": self.attempts,
            "response_time": seconds,
            "timestamp": datetime.fromtimestamp(self.settled_at, UTC).isoformat(timespec="milliseconds"),
            "error": {"type": failure.type, "message": failure.message} if failure and not result else None,
            "queue_ms": result.queue_ms if result else None,
            "protocol_ms": result.protocol_ms if result else None,
            "llm_ms": result.llm_ms if result else None,
            "ttft_ms": result.ttft_ms if result else None,
            "request_bytes": result.request_bytes if result else None,
            "response_bytes": result.response_bytes if result else None,
            "model": result.model if result else None,
            "mock": result.mock if result else None,
            "usage": result.usage if result else None,
            "truncated": result.truncated if result else None,
            "cursor": make_cursor(self.log, self.number),
            "supersedes": make_cursor(self.log, self.supersedes or 0),
        }


@dataclass(frozen=True, slots=True)
class Counts:
    """How many questions are in each state."""

    ready: int = 0
    leased: int = 0
    done: int = 0
    dead: int = 0

    @property
    def open(self) -> int:
        """Questions that have not ended."""
        return self.ready + self.leased

    @property
    def total(self) -> int:
        """All questions known."""
        return self.ready + self.leased + self.done + self.dead


@dataclass(frozen=True, slots=True)
class SourceChecks:
    """Checks of a source's lines after the first `lines`, `SIZE` bytes each. They replace those stored after these."""

    SIZE: ClassVar = 4

    lines: int
    checks: bytes

    def put_into(self, stored: bytearray) -> None:
        """Put the checks into `stored`, which holds the checks of all lines."""
        stored[self.lines * self.SIZE :] = self.checks


@dataclass(frozen=True, slots=True)
class PutReport:
    """What became of a batch: `added` questions stored, `known` ones counted only, `renamed` (wished id, given id)."""

    added: int = 0
    known: int = 0
    renamed: tuple[tuple[str, str], ...] = field(default=())
