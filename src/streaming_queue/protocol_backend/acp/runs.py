"""The runs of one hosted agent: the runs in flight and, for a while, the ended runs."""

from __future__ import annotations

from datetime import UTC, datetime

from streaming_queue.comm.host.execution import Execution
from streaming_queue.comm.host.idempotency_cache import ExpiringCache
from streaming_queue.messages import StreamEvent
from streaming_queue.protocol_backend.acp.codec import new_id

KEPT_S = 600.0
MAX_ENDED = 1000
MAX_CHARACTERS = 16 * 1024 * 1024


class Run:
    """One run, and its execution. If a message comes again under its key, several runs share one execution."""

    __slots__ = (
        "_execution",
        "_finished_at",
        "_told",
        "agent_name",
        "cancelled",
        "created_at",
        "principal",
        "run_id",
        "session_id",
    )

    def __init__(self, run_id: str, agent_name: str, execution: Execution, session_id: str | None) -> None:
        self.run_id = run_id
        self.agent_name = agent_name
        self.session_id = session_id
        self.principal = execution.context.principal
        self.created_at = datetime.now(UTC)
        self._finished_at: datetime | None = None
        self.cancelled = False
        self._execution: Execution | None = execution
        self._told: list[StreamEvent] = []

    @property
    def execution(self) -> Execution | None:
        """The work on the run, None after its end."""
        return self._execution

    @property
    def told(self) -> list[StreamEvent]:
        """The events so far."""
        return self._told if self._execution is None else self._execution.told

    @property
    def end(self) -> StreamEvent | None:
        """The terminal event, None before it is known."""
        if self._execution is not None:
            return self._execution.end
        return self._told[-1] if self._told else None

    @property
    def finished_at(self) -> datetime:
        """When the end was first seen."""
        if self._finished_at is None:
            self._finished_at = datetime.now(UTC)
        return self._finished_at

    def settle(self) -> int:
        """Keep the events and forget the execution; returns how many characters the run holds."""
        self._told = self.told
        self._execution = None
        return sum(len(str(event.get("data") or event.get("message") or "")) for event in self._told)


class Runs:
    """Runs by id. Ended runs stay for ten minutes: 1000 runs and 16 million characters at most.

    No run has a task of its own: an execution tells its runs that it ended.
    """

    def __init__(self, agent_name: str) -> None:
        self._agent_name = agent_name
        self._in_flight: dict[str, Run] = {}
        self._ended = ExpiringCache[str, Run](MAX_ENDED, max_size=MAX_CHARACTERS, kept_s=KEPT_S)

    def __len__(self) -> int:
        return len(self._in_flight) + len(self._ended)

    def begin(self, execution: Execution, run_id: str | None, session_id: str | None) -> Run:
        """A run of this execution, by the wished id if that is free."""
        if run_id is None or run_id in self._in_flight or self._ended.get(run_id) is not None:
            run_id = new_id()
        run = self._in_flight[run_id] = Run(run_id, self._agent_name, execution, session_id)
        execution.task.add_done_callback(lambda _: self._settle(run))
        return run

    def _settle(self, run: Run) -> None:
        del self._in_flight[run.run_id]
        self._ended.put(run.run_id, run, run.settle())

    def find(self, run_id: str, principal: str | None) -> Run | None:
        """The run of this principal by this id; None if there is none, or its time is over."""
        run = self._in_flight.get(run_id) or self._ended.get(run_id)
        return run if run is not None and run.principal == principal else None
