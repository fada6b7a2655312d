"""A run of ours told in ACP's words: its state, and its events. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from streaming_queue.errors import AgentFailedError, error_event
from streaming_queue.messages import DELTA, MESSAGE, STATUS, StreamEvent
from streaming_queue.protocol_backend.acp.codec import (
    CANCELLED,
    COMPLETED,
    CREATED,
    FAILED,
    IN_PROGRESS,
    message,
)
from streaming_queue.protocol_backend.acp.failures import acp_error

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.acp.runs import Run


def state(run: Run, end: StreamEvent | None, status: str | None = None) -> dict[str, Any]:
    """The run as ACP shows it: at work (`status`, else in progress), or at its `end`."""
    document: dict[str, Any] = {
        "run_id": run.run_id,
        "agent_name": run.agent_name,
        "session_id": run.session_id,
        "status": status or IN_PROGRESS,
        "await_request": None,
        "output": [],
        "error": None,
        "created_at": run.created_at,
        "finished_at": None,
    }
    if end is None:
        return document
    document["finished_at"] = run.finished_at
    if end["type"] == MESSAGE:
        document["status"] = COMPLETED
        document["output"] = [_answer(run, end["data"])]
        if end.get("metadata"):
            document["metadata"] = end["metadata"]
    else:
        document["status"] = CANCELLED if run.cancelled else FAILED
        document["error"] = acp_error(end)
    return document


def _answer(run: Run, text: str) -> dict[str, Any]:
    return message(text, f"agent/{run.agent_name}")


def encode_state(run: Run, end: StreamEvent | None, status: str | None = None) -> bytes:
    """The run as JSON; what JSON cannot hold is a failure of the agent."""
    try:
        return orjson.dumps(state(run, end, status))
    except TypeError as error:
        return orjson.dumps(state(run, _unfit(error), status))


class Narrator:
    """Tells a run's events from its first on; the same run gives the same events, to whoever reads."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._in_message = False

    def begin(self) -> list[dict[str, Any]]:
        """What every run begins with."""
        return [{"type": f"run.{status}", "run": state(self._run, None, status)} for status in (CREATED, IN_PROGRESS)]

    def tell(self, events: Iterable[StreamEvent]) -> list[dict[str, Any]]:
        """The events that follow."""
        return [told for event in events for told in self._tell(event)]

    def _tell(self, event: StreamEvent) -> list[dict[str, Any]]:
        if event["type"] == STATUS:
            return [{"type": "generic", "generic": event}]
        if event["type"] == DELTA:
            opening = [] if self._in_message else [self._opening(None)]
            self._in_message = True
            return [*opening, self._part(event["data"])]
        end = _sendable(event)
        completed = state(self._run, end)
        last = {"type": f"run.{completed['status']}", "run": completed}
        if end["type"] != MESSAGE:
            return [last]
        whole = [] if self._in_message else [self._opening(end["data"]), self._part(end["data"])]
        return [*whole, {"type": "message.completed", "message": _answer(self._run, end["data"])}, last]

    def _opening(self, text: str | None) -> dict[str, Any]:
        """A message that has its parts when it is created comes whole; the pieces of another follow."""
        opened = _answer(self._run, text or "")
        if text is None:
            opened["parts"] = []
        return {"type": "message.created", "message": opened}

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "message.part", "part": message(text)["parts"][0]}


def encode_sse(events: Iterable[dict[str, Any]]) -> bytes:
    """Server-sent events (WHATWG HTML, 9.2), without a field but their data; what JSON cannot hold is left out."""
    return b"".join(b"data: %s\n\n" % text for event in events if (text := _dumped(event)) is not None)


def encode_list(events: Iterable[dict[str, Any]]) -> bytes:
    """The same events as the list that is answered for a run."""
    return b'{"events":[%s]}' % b",".join(text for event in events if (text := _dumped(event)) is not None)


def _dumped(event: dict[str, Any]) -> bytes | None:
    try:
        return orjson.dumps(event)
    except TypeError:
        return None


def _sendable(end: StreamEvent) -> StreamEvent:
    try:
        orjson.dumps(end)
    except TypeError as error:
        return _unfit(error)
    return end


def _unfit(error: TypeError) -> StreamEvent:
    return error_event(AgentFailedError(f"the agent's answer cannot be sent as JSON: {error}"))
