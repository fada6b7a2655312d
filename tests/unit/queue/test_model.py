"""Both engines against a model so simple that it is right: random histories, every answer compared."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from unit.queue.writer import in_writer

from streaming_queue.errors import LeaseLostError, QueueFullError, RunClosedError
from streaming_queue.messages import Counts, Failure, Question, Result, SourceChecks
from streaming_queue.queue.base import candidate_ids
from streaming_queue.queue.memory import MemoryQueue
from streaming_queue.queue.sqlite import SQLiteQueue

LEASE_S = 60.0
MAX_OPEN = 9
DEADLINE_S = 20.0
QUESTIONS = st.builds(Question, st.sampled_from("abc"), st.sampled_from([None, "p", "p#2", "q"]))
SOME_IDS = st.none() | st.lists(st.sampled_from(["p", "p#2", "p#3", "q", "q#2"]), max_size=3)
SOME_TYPE = st.none() | st.sampled_from(["OneError", "OtherError"])


@dataclass
class Item:
    name: str
    text: str
    state: str = "ready"
    due: float = 0.0
    expires: float = 0.0
    attempts: int = 0
    losses: int = 0
    fence: int = 0
    sent: bool = False
    in_flight: bool = False
    number: int = 0
    supersedes: int | None = None
    end: str = ""
    history: list[str] = field(default_factory=list)


@dataclass
class Given:
    """A lease, and the item it is for: a purged id may come again as another question."""

    lease: Any
    item: Item


class QueueMachine(RuleBasedStateMachine):
    durable = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1000.0
        self.items: dict[str, Item] = {}
        self.given: list[Given] = []
        self.numbers = self.revision = self.late = self.losses = self.re_executions = self.ahead = 0
        self.purged: list[tuple[int, str, int | None]] = []
        self.table: dict[str, tuple[str, str]] = {}
        self.read = 0
        self.checks = bytearray()
        self.sealed = self.cancelled = False
        self.mark: dict[str, Any] | None = None
        self.paused = False
        self.queue: Any = None

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, DEADLINE_S))

    def open(self) -> None:
        if self.durable:
            path = Path(self.folder.name) / "queue.db"
            opening = SQLiteQueue.open(path, lease_s=LEASE_S, max_open=MAX_OPEN, clock=lambda: self.now)
            self.queue = self.run(opening)
        else:
            self.queue = MemoryQueue(lease_s=LEASE_S, max_open=MAX_OPEN, clock=lambda: self.now)

    @initialize()
    def begin(self) -> None:
        self.open()

    def teardown(self) -> None:
        if self.queue is not None:
            self.run(self.queue.close())
        self.loop.close()
        self.folder.cleanup()

    def in_state(self, *states: str) -> list[Item]:
        return [item for item in self.items.values() if item.state in states]

    def lose(self, item: Item) -> None:
        item.state = "ready"
        self.end_lease(item)
        item.history.append("lost")

    def end_lease(self, item: Item, *, failed: bool = False) -> None:
        self.ahead += not (item.in_flight or failed)
        item.sent, item.in_flight = item.sent or item.in_flight or failed, False

    def refused(self, call: Any) -> None:
        try:
            self.run(call)
        except RunClosedError:
            return
        raise AssertionError("a closed run took it")

    def end_if_cancelled(self) -> int:
        ended = self.in_state("ready", "delayed") if self.cancelled else []
        for item in ended:
            item.state, item.end = "dead", "RunCancelledError"
            self.record(item)
        return len(ended)

    def record(self, item: Item) -> None:
        self.numbers += 1
        item.number, item.supersedes = self.numbers, item.number or None

    @rule(
        questions=st.lists(QUESTIONS, max_size=4), mark=st.none() | st.dictionaries(st.just("line"), st.integers(0, 9))
    )
    def put(self, questions: list[Question], mark: dict[str, Any] | None) -> None:
        if questions and (self.sealed or self.cancelled):
            self.refused(self.queue.put(questions, bookmark=mark))
            return
        items, known, renamed = dict(self.items), 0, []
        for question in questions:
            for name in candidate_ids(question):
                if name not in items:
                    items[name] = Item(name, question.text)
                    if question.id not in (None, name):
                        renamed.append((question.id, name))
                    break
                if question.id is not None and items[name].text == question.text:
                    known += 1
                    break
        added = len(items) - len(self.items)
        if added and len(self.in_state("ready", "delayed", "leased")) + added > MAX_OPEN:
            try:
                self.run(self.queue.put(questions, bookmark=mark))
            except QueueFullError:
                return
            raise AssertionError("a full queue took more")
        checks = None if mark is None else SourceChecks(min(mark.get("line", 0), len(self.checks) // 4), b"%4d" % added)
        report = self.run(self.queue.put(questions, bookmark=mark, checks=checks))
        if checks:
            checks.put_into(self.checks)
        assert (report.added, report.known, report.renamed) == (added, known, tuple(renamed))
        self.items = items
        self.mark = self.mark if mark is None else mark

    @rule(limit=st.integers(1, 4))
    def lease(self, limit: int) -> None:
        leases = self.run(self.queue.lease(limit))
        expected = []
        if not self.paused:
            for item in self.items.values():
                if item.state == "delayed" and item.due <= self.now:
                    item.state = "ready"
                elif item.state == "leased" and item.expires <= self.now:
                    self.lose(item)
            self.end_if_cancelled()
            expected = self.in_state("ready")[:limit]
        assert [lease.id for lease in leases] == [item.name for item in expected]
        for lease, item in zip(leases, expected, strict=True):
            item.state, item.expires, item.fence = "leased", self.now + LEASE_S, item.fence + 1
            assert (lease.attempt, lease.fence, lease.question.text) == (item.attempts + 1, item.fence, item.text)
            assert lease.losses == item.losses
            self.given.append(Given(lease, item))

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        given = data.draw(st.sampled_from(self.given))
        item = given.item
        answer = f"answer {len(item.history)}"
        first = self.run(self.queue.commit(given.lease, Result(answer, "w", "inproc", 0.5)))
        known = self.items.get(item.name) is item
        assert first == (known and item.state != "done")
        if not first:
            self.late += 1
            if known:
                item.history.append("late")
            return
        self.revision += item.state == "dead"
        self.record(item)
        item.state, item.end, item.in_flight = "done", answer, False
        item.attempts = max(item.attempts, given.lease.attempt)
        item.history.append("answered")

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        given = data.draw(st.sampled_from(self.given))
        self.queue.sent(given.lease)
        if self.durable:
            self.run(in_writer(self.queue, lambda store: store.begin()))
        if self.items.get(given.item.name) is given.item and given.item.state == "leased":
            self.re_executions += given.item.sent or given.item.in_flight
            given.item.in_flight = True

    @precondition(lambda self: self.given)
    @rule(
        data=st.data(),
        verb=st.sampled_from(["retry", "release", "refuse", "lose", "bury", "bury", "extend"]),
        delay_s=st.sampled_from([0.0, 0.0, 5.0, 90.0]),
        kind=st.sampled_from(["OneError", "OtherError"]),
    )
    def settle(self, data: st.DataObject, verb: str, delay_s: float, kind: str) -> None:
        given = data.draw(st.sampled_from(self.given))
        item, lease, failure = given.item, given.lease, Failure(kind, "why")
        call = {
            "retry": lambda: self.queue.retry(lease, delay_s, failure),
            "release": lambda: self.queue.release(lease, delay_s),
            "refuse": lambda: self.queue.release(lease, delay_s, refused=True),
            "lose": lambda: self.queue.release(lease, delay_s, failure=failure),
            "bury": lambda: self.queue.bury(lease, failure),
            "extend": lambda: self.queue.extend(lease),
        }[verb]
        if self.items.get(item.name) is not item or item.state != "leased" or item.fence != lease.fence:
            try:
                self.run(call())
            except LeaseLostError:
                return
            raise AssertionError(f"{verb} with a lease that was lost")
        self.run(call())
        if verb == "extend":
            item.expires = self.now + LEASE_S
            return
        if verb == "refuse":
            self.re_executions -= item.in_flight and item.sent
            item.in_flight = False
        else:
            self.end_lease(item, failed=verb != "release")
        item.attempts += verb in ("retry", "bury")
        item.losses += verb == "lose"
        self.losses += verb == "lose"
        item.history.append(
            {"retry": "retried", "release": "released", "refuse": "released", "lose": "lost", "bury": "buried"}[verb]
        )
        if verb == "bury":
            self.record(item)
            item.state, item.end = "dead", kind
        else:
            item.state, item.due = ("delayed" if delay_s else "ready"), self.now + delay_s
            self.end_if_cancelled()

    @rule(seconds=st.sampled_from([1.0, 10.0, 61.0]))
    def advance(self, seconds: float) -> None:
        self.now += seconds

    @rule(ids=SOME_IDS, kind=SOME_TYPE, verb=st.sampled_from(["replay", "purge"]))
    def tidy(self, ids: list[str] | None, kind: str | None, verb: str) -> None:
        chosen = [
            item
            for item in self.in_state("dead")
            if (ids is None or item.name in ids) and (kind is None or item.end == kind)
        ]
        if verb == "replay" and self.cancelled:
            self.refused(self.queue.replay(ids=ids, failure_type=kind))
            return
        assert self.run(getattr(self.queue, verb)(ids=ids, failure_type=kind)) == len(chosen)
        self.revision += len(chosen)
        for item in sorted(chosen, key=lambda item: item.number):
            self.record(item)
            if verb == "purge":
                del self.items[item.name]
                self.purged.append((item.number, item.name, item.supersedes))
            else:
                item.state, item.end, item.attempts, item.losses = "ready", "", 0, 0

    @rule(verb=st.sampled_from(["seal", "seal", "seal", "cancel"]), sure=st.integers(0, 3))
    def close_run(self, verb: str, sure: int) -> None:
        if sure:  # a closed run has little left to test
            return
        if verb == "seal":
            self.run(self.queue.seal())
            self.sealed = True
        else:
            self.cancelled = True
            assert self.run(self.queue.cancel()) == self.end_if_cancelled()

    @rule(limit=st.integers(1, 4))
    def consume(self, limit: int) -> None:
        """A reader that keeps one row a question has the state of the queue whenever it has read all records."""
        records = self.run(self.queue.results(self.read, limit))
        for outcome in records:
            self.read = outcome.number
            if outcome.purged:
                self.table.pop(outcome.question.id, None)
            else:
                end = outcome.result.answer if outcome.result else outcome.failure.type if outcome.failure else ""
                self.table[outcome.question.id] = (outcome.status, end)
        if len(records) < limit:
            status = {"done": "success", "dead": "failed"}
            expected = {i.name: (status.get(i.state, "open"), i.end) for i in self.items.values() if i.number}
            assert self.table == expected

    @rule(on=st.booleans())
    def pause(self, on: bool) -> None:
        self.paused = on
        if on:
            self.queue.pause()
        else:
            self.queue.resume()

    @precondition(lambda self: self.durable and not self.in_state("delayed"))
    @rule()
    def reopen(self) -> None:
        self.run(self.queue.close())
        self.open()
        self.paused = False
        for item in self.in_state("leased"):
            self.lose(item)
        self.end_if_cancelled()

    @invariant()
    def agree(self) -> None:
        if self.queue is None:
            return
        states = [len(self.in_state(*names)) for names in (("ready", "delayed"), ("leased",), ("done",), ("dead",))]
        assert self.run(self.queue.counts()) == Counts(*states)
        ended = sorted(self.in_state("done", "dead"), key=lambda item: item.number)
        records = self.run(self.queue.results())
        expected = [(item.number, item.name, item.supersedes) for item in self.items.values() if item.number]
        assert [(o.number, o.question.id, o.supersedes) for o in records] == sorted(expected + self.purged)
        assert [o.number for o in records if o.status == "open"] == sorted(
            item.number for item in self.in_state("ready", "delayed", "leased") if item.number
        )
        assert [o.number for o in records if o.purged] == [number for number, _, _ in self.purged]
        outcomes = [outcome for outcome in records if outcome.has_ended]
        assert [(o.number, o.question.id, o.attempts) for o in outcomes] == [
            (item.number, item.name, item.attempts) for item in ended
        ]
        assert [o.result.answer if o.result else o.failure.type for o in outcomes] == [item.end for item in ended]
        assert self.run(self.queue.dead()) == [outcome for outcome in outcomes if outcome.result is None]
        assert self.run(self.queue.revision()) == self.revision
        is_over = not self.in_state("ready", "delayed", "leased")
        closed = "cancelled" if self.cancelled else "done" if is_over else "sealed"
        assert self.run(self.queue.run_state()) == (closed if self.sealed or self.cancelled else "open")
        assert self.run(self.queue.bookmark()) == self.mark
        assert self.run(self.queue.source_checks()) == self.checks
        assert self.run(self.queue.stats()) == {
            "re_executions": self.re_executions,
            "leases_taken_ahead": self.ahead,
            "late_duplicates_rejected": self.late,
            "losses": self.losses,
        }
        for item in self.items.values():
            history = self.run(self.queue.attempts(item.name))
            assert [entry.outcome for entry in history] == item.history


class DurableMachine(QueueMachine):
    durable = True


TestMemory = QueueMachine.TestCase
TestMemory.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestDurable = DurableMachine.TestCase
TestDurable.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
