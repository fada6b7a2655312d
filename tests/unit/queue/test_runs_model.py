"""Many runs in one queue, in memory and in a directory, against a model: each question has one run and one end."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streaming_queue.errors import LeaseLostError, RunClosedError, UnknownRunError
from streaming_queue.messages import Counts, Failure, Question, Result
from streaming_queue.queue import runs as runs_module
from streaming_queue.queue.memory import MemoryQueue
from streaming_queue.queue.run_directories import DirectoryRunStore
from streaming_queue.queue.run_store import MemoryRunStore
from streaming_queue.queue.runs import QueueOfRuns

NAMES = st.sampled_from(["a", "b", "c", "d"])
DEADLINE_S = 30


@dataclass
class Run:
    stopped: bool = False
    sealed: bool = False
    cancelled: bool = False
    ready: list[str] = field(default_factory=list)
    leased: list[str] = field(default_factory=list)
    ends: dict[str, str] = field(default_factory=dict)
    rows: int = 0

    @property
    def state(self) -> str:
        if self.cancelled:
            return "cancelled"
        return "open" if not self.sealed else "sealed" if self.ready or self.leased else "done"

    def give_up_open(self) -> int:
        ended = self.ready if self.cancelled else []
        self.ends |= dict.fromkeys(ended, "RunCancelledError")
        self.ready = [] if self.cancelled else self.ready
        return len(ended)


class RunsMachine(RuleBasedStateMachine):
    durable = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.model: dict[str, Run] = {}
        self.leases: list[Any] = []
        self.names = 0
        self.queue: QueueOfRuns
        self.store: Any = None

    def do(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, DEADLINE_S))

    @initialize()
    def begin(self) -> None:
        runs_module.MOST_OPEN = 2  # so that queues are closed and opened all the time
        if self.durable:
            self.store = self.do(DirectoryRunStore.open_directory(Path(self.folder.name) / "queue"))
        else:
            self.store = self.store or MemoryRunStore(MemoryQueue)
        self.queue = self.do(QueueOfRuns.open(self.store))

    def teardown(self) -> None:
        runs_module.MOST_OPEN = 2 * runs_module.MOST_ACTIVE
        self.do(self.queue.close())
        self.loop.close()
        self.folder.cleanup()

    @rule(name=NAMES, weight=st.sampled_from([0.5, 1.0, 3.0]))
    def create(self, name: str, weight: float) -> None:
        _, is_new = self.do(self.queue.create(name, weight=weight))
        assert is_new == (name not in self.model)
        self.model.setdefault(name, Run())

    @rule(name=NAMES, count=st.integers(0, 5))
    def put(self, name: str, count: int) -> None:
        ids = [f"q{self.names + number}" for number in range(count)]
        self.names += count
        call = self.queue.put(name, [Question(f"{id_}?", id_) for id_ in ids])
        run = self.model.get(name)
        if run is None or (ids and run.state != "open"):
            with pytest.raises(UnknownRunError if run is None else RunClosedError):
                self.do(call)
            return
        assert self.do(call).added == count
        run.ready += ids

    @rule(limit=st.integers(1, 12))
    def lease(self, limit: int) -> None:
        free = {name: list(run.ready) for name, run in self.model.items() if not run.stopped and run.ready}
        leases = self.do(self.queue.lease(limit))
        assert len(leases) == min(limit, sum(map(len, free.values())))
        for lease in leases:
            run = self.model[lease.run]
            assert not run.stopped
            assert run.ready[0] == lease.id, "the oldest of its run"
            run.leased.append(run.ready.pop(0))
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), verb=st.sampled_from(["commit", "commit", "bury", "release", "extend"]))
    def settle(self, data: st.DataObject, verb: str) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        run = self.model.get(lease.run)
        if run is None or lease.id not in run.leased:
            return
        if verb == "extend":
            self.do(self.queue.extend(lease))
            return
        self.leases.remove(lease)
        run.leased.remove(lease.id)
        if verb == "commit":
            assert self.do(self.queue.commit(lease, Result("yes", "w", "test", 0.1)))
            run.ends[lease.id] = "yes"
        elif verb == "bury":
            self.do(self.queue.bury(lease, Failure("OneError", "why")))
            run.ends[lease.id] = "OneError"
        else:
            self.do(self.queue.release(lease))
            run.ready = sorted([*run.ready, lease.id], key=lambda id_: int(id_[1:]))
            run.give_up_open()

    @rule(name=NAMES, verb=st.sampled_from(["stop", "go_on", "seal", "cancel", "remove"]), sure=st.integers(0, 2))
    def steer(self, name: str, verb: str, sure: int) -> None:
        run = self.model.get(name)
        if run is None:
            with pytest.raises(UnknownRunError):
                self.do(getattr(self.queue, verb)(name))
            return
        if sure and verb in ("cancel", "remove", "seal"):
            return
        result = self.do(getattr(self.queue, verb)(name))
        if verb == "remove":
            del self.model[name]
            for lease in [lease for lease in self.leases if lease.run == name]:
                self.leases.remove(lease)
                with pytest.raises(LeaseLostError):
                    self.do(self.queue.release(lease))
        elif verb == "cancel":
            run.cancelled = True
            assert result == run.give_up_open()
        else:
            run.stopped = verb == "stop" if verb in ("stop", "go_on") else run.stopped
            run.sealed = run.sealed or verb == "seal"

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        self.do(self.queue.close())
        self.begin()
        self.leases.clear()
        for run in self.model.values():
            run.ready = sorted([*run.ready, *run.leased], key=lambda id_: int(id_[1:]))
            run.leased.clear()
            run.give_up_open()

    @invariant()
    def agree(self) -> None:
        if self.store is None:
            return
        facts = {each.name: each for each in self.do(self.queue.runs())}
        assert set(facts) == set(self.model)
        for name, run in self.model.items():
            now = self.do(self.queue.run(name))
            assert (now.state, now.stopped) == (run.state, run.stopped)
            dead = sum(end != "yes" for end in run.ends.values())
            assert now.counts == Counts(len(run.ready), len(run.leased), len(run.ends) - dead, dead)
            rows = self.do(self.queue.rows(name))
            ends = {
                o.question.id: o.result.answer if o.result else o.failure.type for o in rows if o.failure or o.result
            }
            assert ends == run.ends
            if rows:
                middle = rows[len(rows) // 2]
                rest = self.do(self.queue.rows(name, after=middle.row()["cursor"]))
                assert [o.number for o in rest] == [o.number for o in rows if o.number > middle.number]


class DirectoryMachine(RunsMachine):
    durable = True


TestRunsInMemory = RunsMachine.TestCase
TestRunsInMemory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRunsInADirectory = DirectoryMachine.TestCase
TestRunsInADirectory.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
