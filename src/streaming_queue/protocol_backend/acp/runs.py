"""The runs of one hosted agent: those under way, and, for a while, those that ended."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from streaming_queue.comm.host.execution import Execution
from streaming_queue.messages import StreamEvent
from streaming_queue.protocol_backend.acp.codec import new_id

KEPT_S = 600.0
MAX_ENDED = 1000
MAX_CHARACTERS = 16 * 1024 * 1024


class Run:
    """One run, and the execution behind it; several may share one, where a message came again under its key."""

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
        "size",
        "until",
    )

    def __init__(self, run_id: str, agent_name: str, execution: Execution, session_id: str | None) -> None:
        self.run_id = run_id
        self.agent_name = agent_name
        self.session_id = session_id
        self.principal = execution.context.principal
        self.created_at = datetime.now(UTC)
        self._finished_at: datetime | None = None
        self.cancelled = False
        self.size = 0
        self.until = 0.0
        self._execution: Execution | None = execution
        self._told: list[StreamEvent] = []

    @property
    def execution(self) -> Execution | None:
        """What works on it, None when that has ended."""
        return self._execution

    @property
    def told(self) -> list[StreamEvent]:
        """What became of it so far."""
        return self._told if self._execution is None else self._execution.told

    @property
    def end(self) -> StreamEvent | None:
        """Its terminal event, None before it is known."""
        if self._execution is not None:
            return self._execution.end
        return self._told[-1] if self._told else None

    @property
    def finished_at(self) -> datetime:
        """When its end was first seen."""
        if self._finished_at is None:
            self._finished_at = datetime.now(UTC)
        return self._finished_at

    def settle(self, now: float) -> None:
        """Keep what became of it, and nothing else."""
        self._told = self.told
        self._execution = None
        self.size = sum(len(str(event.get("data") or event.get("message") or "")) for event in self._told)
        self.until = now + KEPT_S


class Runs:
    """Runs by id. Ended ones stay for ten minutes, 1000 of them and 16 million characters at the most.

    None has a task of its own: an execution tells its runs of its end.
    """

    def __init__(self, agent_name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._agent_name = agent_name
        self._clock = clock
        self._under_way: dict[str, Run] = {}
        self._ended: OrderedDict[str, Run] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._under_way) + len(self._ended)

    def begin(self, execution: Execution, run_id: str | None, session_id: str | None) -> Run:
        """A run of this execution, by the id that was wished for where that is free."""
        if run_id is None or run_id in self._under_way or run_id in self._ended:
            run_id = new_id()
        run = self._under_way[run_id] = Run(run_id, self._agent_name, execution, session_id)
        execution.task.add_done_callback(lambda _: self._settle(run))
        return run

    def _settle(self, run: Run) -> None:
        now = self._clock()
        run.settle(now)
        del self._under_way[run.run_id]
        self._ended[run.run_id] = run
        self._size += run.size
        while self._ended and (
            len(self._ended) > MAX_ENDED or self._size > MAX_CHARACTERS or next(iter(self._ended.values())).until <= now
        ):
            _, oldest = self._ended.popitem(last=False)
            self._size -= oldest.size

    def find(self, run_id: str | None, principal: str | None) -> Run | None:
        """The run of this principal by this id, None where there is none (any more)."""
        if run_id is None:
            return None
        run = self._under_way.get(run_id) or self._ended.get(run_id)
        if run is None or run.principal != principal or (run.execution is None and run.until <= self._clock()):
            return None
        return run
