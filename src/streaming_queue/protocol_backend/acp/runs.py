"""The runs of one hosted agent, also for some time after their end; their states and events in ACP's form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from streaming_queue.comm.host.execution import Execution
from streaming_queue.comm.host.idempotency_cache import ExpiringCache
from streaming_queue.messages import DELTA, MESSAGE, STATUS, End, StreamEvent
from streaming_queue.protocol_backend.acp.codec import (
    CANCELLED,
    COMPLETED,
    CREATED,
    FAILED,
    IN_PROGRESS,
    message,
    new_id,
)
from streaming_queue.protocol_backend.acp.failures import acp_error

KEPT_S = 600.0
MAX_ENDED = 1000
MAX_CHARACTERS = 16 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Run:
    """One run and its execution (None after the end).

    If a message is repeated with the same key, several runs share one execution.
    """

    run_id: str
    agent_name: str
    session_id: str | None
    principal: str | None
    execution: Execution | None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancelled: bool = False
    _finished_at: datetime | None = None
    _kept: Sequence[StreamEvent] = ()
    _kept_end: End | None = None

    @property
    def events(self) -> Sequence[StreamEvent]:
        """The events so far."""
        return self._kept if self.execution is None else self.execution.events_so_far

    @property
    def end(self) -> End | None:
        """The terminal event, None before it is known."""
        if self.execution is not None:
            return self.execution.end
        return self._kept_end

    def settle(self) -> int:
        """Keep the events and drop the execution; returns the number of characters in the run."""
        self._kept, self._kept_end = self.events, self.end
        self.execution = None
        return sum(len(str(event.get("data") or event.get("message") or "")) for event in self._kept)

    def state(self, end: End | None = None, status: str = IN_PROGRESS) -> dict[str, Any]:
        """The run in ACP's form: with this status, or at its `end`."""
        document: dict[str, Any] = {
            "run_id": self.run_id,
            "agent_name": self.agent_name,
            "session_id": self.session_id,
            "status": status,
            "await_request": None,
            "output": [],
            "error": None,
            "created_at": self.created_at,
            "finished_at": None,
        }
        if end is None:
            return document
        document["finished_at"] = self._finished_at = self._finished_at or datetime.now(UTC)
        if end["type"] == MESSAGE:
            document["status"] = COMPLETED
            document["output"] = [self.message(end["data"])]
            if metadata := end.get("metadata"):
                document["metadata"] = metadata
        else:
            document["status"] = CANCELLED if self.cancelled else FAILED
            document["error"] = acp_error(end)
        return document

    def encode(self, end: End | None = None, status: str = IN_PROGRESS) -> bytes:
        """`state` as JSON. Raises TypeError if JSON cannot hold the end."""
        return orjson.dumps(self.state(end, status))

    def message(self, text: str) -> dict[str, Any]:
        """A message of the agent."""
        return message(text, f"agent/{self.agent_name}")


class Runs:
    """Runs by id. Ended runs stay for ten minutes: 1000 runs and 16 million characters at most.

    A run has no asyncio task: an execution notifies its runs at its end.
    """

    def __init__(self, agent_name: str) -> None:
        self._agent_name = agent_name
        self._in_flight: dict[str, Run] = {}
        self._ended = ExpiringCache[str, Run](MAX_ENDED, max_size=MAX_CHARACTERS, kept_s=KEPT_S)

    def __len__(self) -> int:
        return len(self._in_flight) + len(self._ended)

    def begin(self, execution: Execution, run_id: str | None, session_id: str | None) -> Run:
        """A new run of this execution, with the given id if the id is free."""
        if run_id is None or run_id in self._in_flight or self._ended.get(run_id) is not None:
            run_id = new_id()
        run = self._in_flight[run_id] = Run(
            run_id, self._agent_name, session_id, execution.context.principal, execution
        )
        execution.task.add_done_callback(lambda _: self._settle(run))
        return run

    def _settle(self, run: Run) -> None:
        del self._in_flight[run.run_id]
        self._ended.put(run.run_id, run, run.settle())

    def find(self, run_id: str, principal: str | None) -> Run | None:
        """The principal's run with this id; None if there is none, or it has expired."""
        run = self._in_flight.get(run_id) or self._ended.get(run_id)
        return run if run is not None and run.principal == principal else None


class RunEvents:
    """The events of a run from the first one, as JSON; each reader gets the same events."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._in_message = False

    def begin(self) -> list[bytes]:
        """The first events of every run."""
        return [_run_event(self._run.state(None, status)) for status in (CREATED, IN_PROGRESS)]

    def encode(self, event: StreamEvent) -> list[bytes]:
        """The events for an execution's next event.

        It skips a delta or a status that JSON cannot hold. Raises TypeError if JSON cannot hold the end.
        """
        try:
            if event["type"] == STATUS:
                return [orjson.dumps({"type": "generic", "generic": event})]
            if event["type"] == DELTA:
                part = _part(event["data"])
                opening = [] if self._in_message else [self._opening(None)]
                self._in_message = True
                return [*opening, part]
        except TypeError:
            return []
        return self._end(event)

    def _end(self, end: End) -> list[bytes]:
        last = _run_event(self._run.state(end))
        if end["type"] != MESSAGE:
            return [last]
        text = end["data"]
        whole = [] if self._in_message else [self._opening(text), _part(text)]
        completed = orjson.dumps({"type": "message.completed", "message": self._run.message(text)})
        return [*whole, completed, last]

    def _opening(self, text: str | None) -> bytes:
        """The event that creates a message: with its parts if `text` is the whole answer, else the pieces follow."""
        opened = self._run.message(text or "")
        if text is None:
            opened["parts"] = []
        return orjson.dumps({"type": "message.created", "message": opened})


def _run_event(state: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": f"run.{state['status']}", "run": state})


def _part(text: str) -> bytes:
    return orjson.dumps({"type": "message.part", "part": message(text)["parts"][0]})


def encode_sse(events: Iterable[bytes]) -> bytes:
    """Server-sent events (WHATWG HTML, 9.2) with only their data."""
    return b"".join([b"data: %b\n\n" % text for text in events])
