"""Coordinator, queue and workers through thousands of interleavings, in virtual time: each question ends once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from unit.core.virtual_loop import VirtualLoop, VirtualTime, in_virtual_time

from streaming_queue.core.scheduling.scheduler import Scheduler, SchedulerSettings
from streaming_queue.errors import (
    AgentFailedError,
    ConnectError,
    ProtocolError,
    QuotaError,
    RateLimitedError,
    RemoteError,
    StreamingQueueError,
    UnavailableError,
)
from streaming_queue.messages import Question
from streaming_queue.queue.base import Lease
from streaming_queue.queue.memory import MemoryQueue
from streaming_queue.telemetry.events import Answered, DeadLettered, Event, WorkerLeft

WORKERS = ["W1", "W2", "W3", "W4"]
LONGEST_S = 600.0
"""Of virtual time: whoever needs more hangs."""
ERRORS: tuple[StreamingQueueError, ...] = (
    ConnectError("reset"),
    RemoteError("500", retryable=True),
    RemoteError("400", retryable=False),
    ProtocolError("garbage"),
    AgentFailedError("refused", retryable=False),
    RateLimitedError("slow down", retry_after_s=3.0),
    RateLimitedError("slow down"),
)
PICK = st.integers(0, 1000)


class Asked:
    """A question at a worker, which has not said yet what becomes of it."""

    def __init__(self, worker: str, lease: Lease) -> None:
        self.worker = worker
        self.lease = lease
        self.future: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class Interleavings(RuleBasedStateMachine):
    """Rules act between two turns of the event loop; `teardown` lets the round end by itself and looks at the record."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualTime()
        self.loop = VirtualLoop(self.clock)
        self.core = in_virtual_time(self.clock)
        self.core.__enter__()
        self.put: set[str] = set()
        self.under_way: list[Asked] = []
        self.in_flight: Counter[str] = Counter()
        self.healthy: set[str] = set(WORKERS)
        self.events: list[Event] = []
        self.removals: list[asyncio.Task[None]] = []
        self.running: asyncio.Task[bool] | None = None
        self.itself = False
        self.drained = False
        self.out: set[str] = set()

    # --- the agents ---

    async def ask(self, worker_id: str, lease: Lease, until: float | None) -> tuple[str, Mapping[str, Any]]:
        asked = Asked(worker_id, lease)
        self.under_way.append(asked)
        self.in_flight[worker_id] += 1
        try:
            assert self.in_flight[worker_id] <= self.settings.slots_of(worker_id), "more than its slots"
            if self.itself:
                await asyncio.sleep(0.01)
                return f"{lease.id} by itself", {}
            return await asked.future, {}
        finally:
            self.in_flight[worker_id] -= 1
            self.under_way.remove(asked)

    async def probe(self, worker_id: str) -> bool:
        await asyncio.sleep(0.01)
        return worker_id in self.healthy

    # --- the beginning ---

    @initialize(
        hedge=st.booleans(),
        adaptive=st.booleans(),
        workers=st.integers(1, 3),
        slots=st.integers(1, 3),
        batch_size=st.sampled_from([1, 2, 64]),
        question_timeout_s=st.sampled_from([None, None, 2.0, 60.0]),
        attempt_timeout_s=st.sampled_from([None, None, 0.5, 20.0]),
        lease_s=st.sampled_from([1.0, 60.0]),
        count=st.integers(0, 12),
    )
    def begin(self, workers: int, slots: int, count: int, lease_s: float, **options: Any) -> None:
        self.settings = SchedulerSettings(
            concurrency=slots, max_attempts=3, no_worker_timeout_s=5.0, drain_s=3.0, lease_s=lease_s,
            gone_after_s=4.0, **options,
        )  # fmt: skip
        self.queue = MemoryQueue(lease_s=lease_s, clock=self.clock.monotonic)
        self.intake_done = asyncio.Event()
        self.scheduler = Scheduler(
            self.queue,
            self.ask,
            WORKERS[:workers],
            probe=self.probe,
            protocol_of=lambda _: "test",
            emit=self.events.append,
            settings=self.settings,
            intake_done=self.intake_done,
        )
        self.take_in(count)
        self.running = self.loop.create_task(self.scheduler.run())
        self.pass_time(0)

    # --- what may happen ---

    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))

    def turn(self, turns: int) -> None:
        """So few turns of the loop that the next rule may fall between any two."""
        for _ in range(turns):
            self.loop.run_until_complete(asyncio.sleep(0))

    def take_in(self, count: int) -> None:
        names = [f"q{len(self.put) + number}" for number in range(count)]
        self.put.update(names)
        self.loop.run_until_complete(self.queue.put([Question(f"text of {name}", name) for name in names]))

    @property
    def ended(self) -> bool:
        return self.running is None or self.running.done()

    @precondition(lambda self: not self.intake_done.is_set())
    @rule(count=st.integers(1, 6))
    def more_questions(self, count: int) -> None:
        self.take_in(count)

    @rule()
    def intake_ends(self) -> None:
        self.intake_done.set()

    @rule(seconds=st.sampled_from([0.0, 0.02, 0.3, 1.1, 3.5, 12.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(turns=st.integers(1, 3))
    def turns_pass(self, turns: int) -> None:
        self.turn(turns)

    @rule(pick=PICK, turns=st.integers(0, 2))
    def an_answer(self, pick: int, turns: int) -> None:
        if asked := self.some_asked(pick):
            asked.future.set_result(f"{asked.lease.id} by {asked.worker}")
            self.turn(turns)

    @rule()
    def all_answer(self) -> None:
        for asked in self.under_way:
            if not asked.future.done():
                asked.future.set_result(f"{asked.lease.id} by {asked.worker}")

    @rule(pick=PICK, error=st.sampled_from(ERRORS), turns=st.integers(0, 2))
    def a_failure(self, pick: int, error: StreamingQueueError, turns: int) -> None:
        if asked := self.some_asked(pick):
            asked.future.set_exception(error)
            self.turn(turns)

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_fails_at_everything(self, worker: str) -> None:
        for asked in self.under_way:
            if asked.worker == worker and not asked.future.done():
                asked.future.set_exception(RemoteError("500", retryable=True))

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_dies(self, worker: str) -> None:
        self.healthy.discard(worker)
        for asked in self.under_way:
            if asked.worker == worker and not asked.future.done():
                asked.future.set_exception(ConnectError("connection reset"))

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_refuses(self, worker: str) -> None:
        self.healthy.discard(worker)
        for asked in self.under_way:
            if asked.worker == worker and not asked.future.done():
                asked.future.set_exception(UnavailableError("connection refused"))

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_falls_silent(self, worker: str) -> None:
        self.healthy.discard(worker)

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_is_well_again(self, worker: str) -> None:
        self.healthy.add(worker)

    @rule(pick=PICK)
    def a_worker_has_no_quota(self, pick: int) -> None:
        if len(self.scheduler.pool.workers) - len(self.out) > 1 and (asked := self.some_asked(pick)):
            self.out.add(asked.worker)
            asked.future.set_exception(QuotaError("no credit"))

    @precondition(lambda self: not self.ended)
    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_joins(self, worker: str) -> None:
        self.scheduler.add_worker(worker)

    @precondition(lambda self: not self.ended)
    @rule(worker=st.sampled_from(WORKERS), at_once=st.booleans())
    def a_worker_leaves(self, worker: str, at_once: bool) -> None:
        self.removals.append(self.loop.create_task(self.scheduler.remove_worker(worker, at_once=at_once)))

    @rule()
    def a_lease_is_lost(self) -> None:
        """As after a standstill of the process: all leases are over, and nobody prolonged them."""
        self.clock.now += self.settings.lease_s + 0.001

    @rule()
    def drain(self) -> None:
        self.drained = True
        self.scheduler.drain()

    def some_asked(self, pick: int) -> Asked | None:
        asked = [asked for asked in self.under_way if not asked.future.done()]
        return asked[pick % len(asked)] if asked else None

    # --- what always holds ---

    @invariant()
    def nobody_is_asked_beyond_its_slots(self) -> None:
        for worker, count in self.in_flight.items():
            assert 0 <= count <= self.settings.slots_of(worker)

    @invariant()
    def the_round_goes_on_until_it_may_end(self) -> None:
        if self.running is not None and self.running.done():
            self.verdict_of(self.running)

    def verdict_of(self, running: asyncio.Task[bool]) -> bool | None:
        try:
            finished = running.result()
        except QuotaError:
            return None  # nobody is left who could work
        except UnavailableError:
            return None  # nobody was in reach for as long as a run waits
        assert finished or self.drained
        return finished

    # --- the end ---

    def teardown(self) -> None:
        try:
            if self.running is not None:
                ending = asyncio.wait_for(self.end(), LONGEST_S)
                try:
                    self.loop.run_until_complete(ending)
                except TimeoutError:
                    pytest.fail(f"it does not end: {self.state()}")
            stray = asyncio.all_tasks(self.loop)
            assert not stray, stray
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.core.__exit__(None, None, None)
            self.loop.close()

    def state(self) -> str:
        workers = self.scheduler.pool.workers
        under_way = [(attempt.worker_id, attempt.lease.id) for attempt in self.scheduler._attempts.in_flight]
        return f"{workers=} {under_way=} kept={list(self.scheduler._handoff)} {self.queue._counts=} {self.removals=}"

    async def end(self) -> None:
        """Whoever is there answers from now on, so that the round ends by itself."""
        self.intake_done.set()
        self.itself = True
        self.healthy.update(WORKERS)
        for asked in self.under_way:
            if not asked.future.done():
                asked.future.set_result("at last")
        running = self.running
        assert running is not None
        if not self.scheduler.pool.workers and not running.done():
            self.scheduler.add_worker("W1")
        await asyncio.wait([running])
        finished = self.verdict_of(running)
        await asyncio.wait_for(asyncio.gather(*self.removals), LONGEST_S)
        assert not self.under_way
        assert not +self.in_flight
        await self.check_the_record(finished)
        await self.queue.close()

    async def check_the_record(self, finished: bool | None) -> None:
        counts = await self.queue.counts()
        outcomes = await self.queue.results(0, 10_000)
        recorded = Counter(outcome.question.id for outcome in outcomes)
        assert set(recorded.values()) <= {1}, recorded
        assert set(recorded) <= self.put
        held = [entry for entry in self.queue._entries.values() if entry.state == "leased"]
        assert not held, f"held by nobody: {held} {self.events}"
        assert counts.open == len(self.put) - len(recorded)
        if finished:
            assert counts.open == 0
        answered = Counter(event.question_id for event in self.events if isinstance(event, Answered))
        buried = {event.question_id for event in self.events if isinstance(event, DeadLettered)}
        assert answered == Counter(outcome.question.id for outcome in outcomes if outcome.result)
        assert {outcome.question.id for outcome in outcomes if outcome.failure} <= buried
        left = [event.worker for event in self.events if isinstance(event, WorkerLeft)]
        assert len(left) <= len(self.removals)


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Not to look for a shorter history: that takes minutes."""
OPTIONS = settings(deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)

TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(OPTIONS, max_examples=400, stateful_step_count=30)


@pytest.mark.faults
@pytest.mark.timeout(900)
class TestManyInterleavings(Interleavings.TestCase):
    """The same for longer."""

    settings = settings(OPTIONS, max_examples=5000, stateful_step_count=60)
