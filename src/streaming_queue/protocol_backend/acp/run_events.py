"""The state and the events of a hosted run as ACP writes them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from streaming_queue.messages import ERROR, MESSAGE, STATUS, StreamEvent
from streaming_queue.protocol_backend.acp.codec import CANCELLED, COMPLETED, CREATED, FAILED, IN_PROGRESS, message
from streaming_queue.protocol_backend.acp.failures import acp_error

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.acp.runs import Run


def _state(run: Run, end: StreamEvent | None, status: str = IN_PROGRESS) -> dict[str, Any]:
    """The run as ACP shows it: in this status, or at its `end`."""
    document: dict[str, Any] = {
        "run_id": run.run_id,
        "agent_name": run.agent_name,
        "session_id": run.session_id,
        "status": status,
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


def encode_state(run: Run, end: StreamEvent | None = None, status: str = IN_PROGRESS) -> bytes:
    """The run as JSON: in this status, or at its `end`. Raises TypeError when JSON cannot hold the end."""
    return orjson.dumps(_state(run, end, status))


class RunEvents:
    """The events of a run from its first on, as JSON; each reader gets the same events."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._in_message = False

    def begin(self) -> list[bytes]:
        """The events that every run begins with."""
        return [_run_event(_state(self._run, None, status)) for status in (CREATED, IN_PROGRESS)]

    def encode(self, event: StreamEvent) -> list[bytes]:
        """The events for an execution's next event.

        A delta or a status that JSON cannot hold is left out. Raises TypeError when JSON cannot hold the end.
        """
        if event["type"] in (MESSAGE, ERROR):
            return self._end(event)
        try:
            if event["type"] == STATUS:
                return [orjson.dumps({"type": "generic", "generic": event})]
            part = _part(event["data"])
        except TypeError:
            return []
        opening = [] if self._in_message else [self._opening(None)]
        self._in_message = True
        return [*opening, part]

    def _end(self, end: StreamEvent) -> list[bytes]:
        last = _run_event(_state(self._run, end))
        if end["type"] != MESSAGE:
            return [last]
        text = end["data"]
        whole = [] if self._in_message else [self._opening(text), _part(text)]
        completed = orjson.dumps({"type": "message.completed", "message": _answer(self._run, text)})
        return [*whole, completed, last]

    def _opening(self, text: str | None) -> bytes:
        """A message that has its parts when it is created comes whole; the pieces of another follow."""
        opened = _answer(self._run, text or "")
        if text is None:
            opened["parts"] = []
        return orjson.dumps({"type": "message.created", "message": opened})


def _run_event(state: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": f"run.{state['status']}", "run": state})


def _part(text: str) -> bytes:
    return orjson.dumps({"type": "message.part", "part": message(text)["parts"][0]})


def encode_sse(events: Iterable[bytes]) -> bytes:
    """Server-sent events (WHATWG HTML, 9.2) with no field but their data."""
    return b"".join([b"data: %b\n\n" % text for text in events])
