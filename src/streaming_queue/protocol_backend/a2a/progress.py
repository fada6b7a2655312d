"""Builds the answer from results and streamed events, in any order, also repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streaming_queue.comm.answer_limit import AnswerMeter, check_size, text_bytes
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import DELTA, STATUS, Reply, ReplyMetadata, Status, StreamEvent, answer_event
from streaming_queue.protocol_backend.a2a.codec import Result, metadata_of, parts_text
from streaming_queue.protocol_backend.a2a.dialect import ANSWERED, RUNNING, state_name
from streaming_queue.protocol_backend.a2a.failures import task_error

WORDS_REMEMBERED = 10_000


class Progress:
    """The state of one exchange: its task (`task_id`), the pieces so far, and at the end the `reply`.

    `running`: a task is known, but not its end.
    """

    def __init__(self, address: str) -> None:
        self.task_id: str | None = None
        self.reply: Reply | None = None
        self._address = address
        self._artifacts: dict[str, list[str]] = {}
        self._ids_bytes = 0
        self._size = 0
        self._length = 0
        self._emitted = 0
        self._metadata: ReplyMetadata = {}
        self._words: dict[int, None] = {}

    @property
    def running(self) -> bool:
        """Whether a task is known, but not its end."""
        return self.task_id is not None and self.reply is None

    def feed(self, result: Result) -> list[StreamEvent]:
        """Add a result of the peer; returns the new events for our reader.

        Raises:
            StreamingQueueError: the task ended without an answer.
            ProtocolError: the result belongs to another task, or the answer is over its limit.
        """
        if self.reply is not None:
            return []
        kind, body = result
        if kind == "message":
            return self._end(body, parts_text(body), metadata_of(body))
        self._know(body.get("id" if kind == "task" else "taskId"))
        if kind == "artifactUpdate":
            return self._artifact(body.get("artifact"), append=body.get("append") is True)
        if kind == "statusUpdate":
            return self._status(body, whole=False)
        events: list[StreamEvent] = []
        artifacts = body.get("artifacts")
        for artifact in artifacts if isinstance(artifacts, list) else ():
            events += self._artifact(artifact, append=False)
        return events + self._status(body, whole=True)

    def _know(self, task_id: Any) -> None:
        if not isinstance(task_id, str) or not task_id:
            raise ProtocolError(f"{self._address}: the task has no id")
        if self.task_id is None:
            self.task_id = task_id
        elif self.task_id != task_id:
            raise ProtocolError(f"{self._address}: the result belongs to another task, {task_id[:80]!a}")

    def _artifact(self, artifact: Any, *, append: bool) -> list[StreamEvent]:
        if not isinstance(artifact, Mapping):
            return []
        text = parts_text(artifact, "")
        pieces = self._pieces(str(artifact.get("artifactId")))
        if not append:
            self._length -= sum(map(len, pieces))
            self._size -= sum(map(text_bytes, pieces))
            pieces.clear()
        if text:
            pieces.append(text)
        self._length += len(text)
        self._size += text_bytes(text)
        check_size(self._size, self._address)
        # A reader gets each piece once: after a reconnect the peer starts again.
        fresh = self._length - self._emitted
        if fresh <= 0 or not text:
            return []
        self._emitted = self._length
        return [{"type": DELTA, "data": text[-fresh:]}]

    def _pieces(self, artifact_id: str) -> list[str]:
        """The pieces of an artifact so far. Raises ProtocolError if the artifacts' names alone are too long."""
        pieces = self._artifacts.get(artifact_id)
        if pieces is None:
            pieces = self._artifacts[artifact_id] = []
            self._ids_bytes += 1 + len(artifact_id)
            check_size(self._ids_bytes, self._address)
        return pieces

    def _status(self, body: Mapping[str, Any], *, whole: bool) -> list[StreamEvent]:
        """The state in a status update, or in the task as a `whole`."""
        status = body.get("status")
        status = status if isinstance(status, Mapping) else {}
        state, message = state_name(status.get("state")), status.get("message")
        said = parts_text(message)
        if state in RUNNING:
            if whole:
                self._metadata |= metadata_of(body)
            return self._word(message, said, {} if whole else metadata_of(body))
        if state not in ANSWERED:
            raise task_error(state, message, said, self._address)
        text = "\n".join("".join(pieces) for pieces in self._artifacts.values()) or said or _last_word(body)
        if not (text or whole):  # the agent may have sent the answer in statuses: the whole task has it
            return []
        return self._end(body, text, {**metadata_of(message), **self._metadata, **metadata_of(body)})

    def _word(self, message: Any, said: str, metadata: ReplyMetadata) -> list[StreamEvent]:
        """A status, unless it was emitted before: after a reconnect the peer may start again."""
        if not (said or metadata):
            return []
        message_id = message.get("messageId") if isinstance(message, Mapping) else None
        if isinstance(message_id, str):
            known = hash(message_id)  # an id may be long
            if known in self._words:
                return []
            self._words[known] = None
            if len(self._words) > WORDS_REMEMBERED:
                del self._words[next(iter(self._words))]
        event: Status = {"type": STATUS, "data": said}
        if metadata:
            event["metadata"] = metadata
        return [event]

    def _end(self, raw: Mapping[str, Any], text: str, metadata: ReplyMetadata) -> list[StreamEvent]:
        AnswerMeter(self._address).whole(text)
        self.reply = Reply(raw=raw, text=text)
        if metadata:
            self.reply["metadata"] = metadata
        return [answer_event(self.reply)]


def _last_word(task: Mapping[str, Any]) -> str:
    """The agent's last message in a task's history."""
    history = task.get("history")
    for message in reversed(history) if isinstance(history, list) else ():
        if isinstance(message, Mapping) and str(message.get("role")).lower().endswith("agent"):
            return parts_text(message)
    return ""
