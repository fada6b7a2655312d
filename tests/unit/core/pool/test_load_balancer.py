from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streaming_queue.comm.context import CallContext, calling, current_call
from streaming_queue.core.pool import load_balancer as module
from streaming_queue.core.pool.load_balancer import LoadBalancer
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    ConnectError,
    ProtocolError,
    QuotaError,
    RateLimitedError,
    StreamingQueueError,
    UnavailableError,
)
from streaming_queue.telemetry.events import Event, WorkerDown, WorkerUp


class Bench:
    """A pool whose members do as a test says: `behave(member, question)` answers or raises."""

    def __init__(self, counts: dict[str, int] | None = None, **options: Any) -> None:
        self.events: list[Event] = []
        self.healthy: set[str] = set()
        self.in_flight: Counter[str] = Counter()
        self.asked: list[tuple[str, str]] = []
        self.contexts: list[CallContext | None] = []
        self.counts = counts or {"A": 2, "B": 2}
        self.balancer = LoadBalancer(
            self.counts, probe=self.probe, emit=self.events.append, **{"probe_interval_s": 0.02} | options
        )

    async def behave(self, member: str, question: str) -> str:
        return f"{question} by {member}"

    async def probe(self, member: str) -> bool:
        self.contexts.append(current_call())
        return member in self.healthy

    async def ask(self, question: str, key: str | None = None) -> str:
        async def ask(member: str) -> str:
            self.in_flight[member] += 1
            assert self.in_flight[member] <= self.counts[member], "two questions in one slot"
            self.asked.append((member, question))
            try:
                return await self.behave(member, question)
            finally:
                self.in_flight[member] -= 1

        return await self.balancer.ask(ask, key)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def may_be_given(self) -> bool:
        """Whether somebody waits for a slot that is free and fit: what must never be."""
        free = self.balancer._free
        return any(self.balancer._may_take(question, member) for question, _ in free._waiting for member in free)


@pytest.fixture
async def bench(virtual_time: Any, no_stray_tasks: None):
    bench = Bench()
    yield bench
    bench.balancer.close()
    await asyncio.sleep(0)


async def test_free_slots_are_taken_in_turn_and_no_more_than_there_are(bench: Bench) -> None:
    release = asyncio.Event()

    async def behave(member: str, question: str) -> str:
        await release.wait()
        return member

    bench.behave = behave
    asking = [asyncio.create_task(bench.ask(f"q{number}")) for number in range(7)]
    await asyncio.sleep(0.01)
    assert [member for member, _ in bench.asked] == ["A", "B", "A", "B"]
    figures = bench.balancer.figures()
    assert (figures["slots"], figures["busy"], figures["waiting"]) == (4, 4, 3)
    release.set()
    assert len(await asyncio.gather(*asking)) == 7
    figures = bench.balancer.figures()
    assert (figures["busy"], figures["waiting"]) == (0, 0)
    assert sum(member["answered"] for member in figures["members"].values()) == 7


async def test_the_figures_tell_of_each_member(virtual_time: Any, no_stray_tasks: None) -> None:
    bench = Bench(dict.fromkeys("ABCDE", 1))
    errors = {
        "A": AuthError("401"),
        "B": RateLimitedError("slow down", retry_after_s=30),
        "C": ConnectError("reset"),
        "D": ProtocolError("garbage"),
    }

    async def behave(member: str, question: str) -> str:
        if member in errors:
            raise errors[member]
        return await release.wait() and member

    release = asyncio.Event()
    bench.behave = behave
    with pytest.raises(ProtocolError):
        await bench.ask("q")  # A, B and C cost it nothing
    asking = asyncio.create_task(bench.ask("q", "q"))
    await asyncio.sleep(0)
    idle = {"slots": 1, "busy": 0, "answered": 0, "failed": 1}
    assert bench.balancer.figures() == {
        "slots": 5,
        "busy": 1,
        "waiting": 0,
        "members": {
            "A": idle | {"state": "out"},
            "B": idle | {"state": "paused"},
            "C": idle | {"state": "down"},
            "D": idle | {"state": "up"},
            "E": {"state": "up", "slots": 1, "busy": 1, "answered": 0, "failed": 0},
        },
    }
    release.set()
    assert await asking == "E"
    assert bench.balancer.figures()["members"]["E"] == idle | {"state": "up", "answered": 1, "failed": 0}
    bench.balancer.close()


async def test_who_is_faster_answers_more(bench: Bench) -> None:
    async def behave(member: str, question: str) -> str:
        await asyncio.sleep(0.2 if member == "A" else 0.002)
        return member

    bench.behave = behave
    answers = Counter(await asyncio.gather(*(bench.ask(f"q{number}") for number in range(60))))
    assert answers["A"] <= 6


async def test_a_lost_members_question_goes_to_another_at_once(bench: Bench) -> None:
    async def behave(member: str, question: str) -> str:
        if member == "A":
            raise ConnectError("reset")
        return member

    bench.behave = behave
    assert await asyncio.gather(*(bench.ask(f"q{number}") for number in range(20))) == ["B"] * 20
    assert [event.worker for event in bench.of(WorkerDown)] == ["A"]
    assert Counter(member for member, _ in bench.asked)["A"] <= 2
    assert bench.balancer.ready


async def test_a_member_is_used_again_when_its_probe_finds_it(bench: Bench) -> None:
    async def behave(member: str, question: str) -> str:
        if question == "first":
            raise ConnectError("reset")
        return member

    bench.behave = behave
    with calling(CallContext(question_id="first")), pytest.raises(ConnectError, match="no worker can be reached: A, B"):
        await bench.ask("first")
    assert not bench.balancer.ready
    with pytest.raises(ConnectError):
        await bench.ask("second")
    assert ("A", "second") not in bench.asked
    bench.healthy.update("AB")
    await asyncio.sleep(0.3)
    assert sorted(event.worker for event in bench.of(WorkerUp)) == ["A", "B"]
    assert bench.balancer.ready
    assert await bench.ask("third") in "AB"
    assert set(bench.contexts) == {None}, "a probe is nobody's question"


async def test_a_member_that_stands_still_loses_its_questions_to_another(
    virtual_time: Any, no_stray_tasks: None
) -> None:
    bench = Bench({"A": 1, "B": 1}, gone_after_s=0.05)
    bench.healthy.add("B")

    async def behave(member: str, question: str) -> str:
        if member == "A":
            await asyncio.Event().wait()
        return member

    bench.behave = behave
    async with asyncio.timeout(5):
        assert await asyncio.gather(bench.ask("first"), bench.ask("second")) == ["B", "B"]
    assert [event.worker for event in bench.of(WorkerDown)] == ["A"]
    assert bench.in_flight["A"] == 0
    bench.balancer.close()


async def test_what_was_passed_on_in_part_is_not_asked_again(bench: Bench) -> None:
    asked = []

    async def ask(member: str) -> str:
        asked.append(member)
        raise ConnectError("reset")

    with pytest.raises(AgentFailedError, match="worker 'A' failed in the middle of its answer: reset"):
        await bench.balancer.ask(ask, may_repeat=lambda: False)
    assert asked == ["A"]
    assert [event.worker for event in bench.of(WorkerDown)] == ["A"]


async def test_a_member_that_came_back_is_given_one_question_at_first_however_many_wait(
    virtual_time: Any, no_stray_tasks: None
) -> None:
    bench = Bench({"A": 4, "B": 4})
    held, lost = asyncio.Event(), asyncio.Event()

    async def behave(member: str, question: str) -> str:
        if member == "A" and not lost.is_set():
            lost.set()
            raise ConnectError("reset")
        await held.wait()
        return member

    bench.behave = behave
    asking = [asyncio.create_task(bench.ask(f"q{number}")) for number in range(12)]
    await lost.wait()
    bench.healthy.update("AB")
    async with asyncio.timeout(5):
        while not bench.of(WorkerUp):  # noqa: ASYNC110 (a probe tells nobody)
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    assert bench.in_flight == {"A": 1, "B": 4}
    held.set()
    assert set(await asyncio.gather(*asking)) == {"A", "B"}
    bench.balancer.close()


async def test_waiting_questions_are_turned_away_when_nobody_is_left(bench: Bench) -> None:
    breaks = asyncio.Event()

    async def behave(member: str, question: str) -> str:
        await breaks.wait()
        raise ConnectError("reset")

    bench.behave = behave
    asking = [asyncio.create_task(bench.ask(f"q{number}")) for number in range(9)]
    await asyncio.sleep(0.01)
    breaks.set()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    kinds = [type(end) for end in ends]
    assert (kinds.count(ConnectError), kinds.count(UnavailableError)) == (4, 5), "five reached no worker"
    assert len({id(end) for end in ends}) == 9, "each has an error of its own"
    assert bench.balancer.figures()["waiting"] == 0


async def test_a_rate_limited_member_is_left_alone_and_the_others_go_on(bench: Bench) -> None:
    async def behave(member: str, question: str) -> str:
        if member == "A":
            raise RateLimitedError("slow down", retry_after_s=30)
        return member

    bench.behave = behave
    assert await asyncio.gather(*(bench.ask(f"q{number}") for number in range(9))) == ["B"] * 9
    assert bench.balancer.figures()["members"]["A"]["state"] == "paused"


async def test_when_all_are_paused_the_caller_is_told_for_how_long(bench: Bench) -> None:
    async def behave(member: str, question: str) -> str:
        raise RateLimitedError("slow down", retry_after_s={"A": 30.0, "B": 5.0}[member])

    bench.behave = behave
    with pytest.raises(RateLimitedError) as caught:
        await bench.ask("q")
    assert 4.5 < caught.value.retry_after_s <= 5.0
    assert bench.balancer.ready, "a pause is no outage"


async def test_a_member_that_cannot_work_is_out_and_the_others_go_on(bench: Bench) -> None:
    async def behave(member: str, question: str) -> str:
        if member == "A":
            raise AuthError("401")
        return member

    bench.behave = behave
    for number in range(5):
        assert await bench.ask(f"q{number}") == "B"
    assert [(event.worker, event.final) for event in bench.of(WorkerDown)] == [("A", True)]
    assert [member for member, _ in bench.asked].count("A") == 1


async def test_when_all_are_out_their_error_goes_up_and_the_next_question_finds_them_anew(bench: Bench) -> None:
    mended = False

    async def behave(member: str, question: str) -> str:
        if not mended:
            raise QuotaError("no credit left")
        return member

    bench.behave = behave
    ends = await asyncio.gather(*(bench.ask(f"q{number}") for number in range(9)), return_exceptions=True)
    assert {type(end) for end in ends} == {QuotaError}
    assert bench.balancer.ready, "who asks is told why, not that nobody is there"
    mended = True
    assert await bench.ask("again") in "AB"


async def test_questions_that_wait_when_the_last_worker_goes_out_get_its_error(bench: Bench) -> None:
    asked = asyncio.Event()

    async def behave(member: str, question: str) -> str:
        await asked.wait()
        raise QuotaError("no credit left")

    bench.behave = behave
    asking = [asyncio.create_task(bench.ask(f"q{number}")) for number in range(9)]
    await asyncio.sleep(0.01)
    asked.set()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(end) for end in ends} == {QuotaError}
    assert len(bench.asked) == 4, "five questions were turned away"
    assert len({id(end) for end in ends}) == 9, "each has an error of its own"


async def test_a_member_that_is_out_gets_a_second_chance_after_a_while(virtual_time: Any, no_stray_tasks: None) -> None:
    bench = Bench(second_chance_s=0.05)
    wrong = {"A"}

    async def behave(member: str, question: str) -> str:
        if member in wrong:
            raise AuthError("401")
        return member

    bench.behave = behave
    assert await bench.ask("one") == "B"
    wrong.clear()
    await asyncio.sleep(0.06)
    assert {await bench.ask("two"), await bench.ask("three")} == {"A", "B"}
    bench.balancer.close()


async def test_a_pool_with_one_member_out_and_the_other_lost_waits_for_either(
    virtual_time: Any, no_stray_tasks: None
) -> None:
    bench = Bench(second_chance_s=0.1)
    mended = False

    async def behave(member: str, question: str) -> str:
        if mended:
            return member
        raise AuthError("401") if member == "A" else ConnectError("reset")

    bench.behave = behave
    with pytest.raises(ConnectError, match="no worker can be reached"):
        await bench.ask("one")
    assert not bench.balancer.ready
    mended = True
    await asyncio.sleep(0.2)
    assert bench.balancer.ready
    assert await bench.ask("two") == "A"
    bench.balancer.close()


async def test_poison_is_no_question_more_once_it_outlived_enough_members() -> None:
    bench = Bench(dict.fromkeys("ABCDE", 1), max_losses=3)

    async def behave(member: str, question: str) -> str:
        raise ConnectError("reset")

    bench.behave = behave
    with pytest.raises(AgentFailedError, match="lost 3 workers in a row, last: reset") as caught:
        await bench.ask("poison")
    assert not caught.value.retryable
    assert len(bench.asked) == 3
    bench.balancer.close()


async def test_what_a_member_answers_badly_is_the_callers_to_decide_and_goes_elsewhere_when_it_comes_again(
    bench: Bench,
) -> None:
    async def behave(member: str, question: str) -> str:
        if member == "A":
            raise ProtocolError("garbage")
        return member

    bench.behave = behave
    for number in range(4):
        question = f"q{number}"
        try:
            assert await bench.ask(question, question) == "B"
        except ProtocolError:
            assert await bench.ask(question, question) == "B"
    assert [member for member, _ in bench.asked].count("A") >= 2
    assert not bench.of(WorkerDown)
    assert not bench.balancer.failed_at, "who was answered is forgotten"


async def test_a_question_that_comes_again_goes_elsewhere_each_time(virtual_time: Any, no_stray_tasks: None) -> None:
    bench = Bench(dict.fromkeys("ABCD", 4))

    async def behave(member: str, question: str) -> str:
        raise ProtocolError("garbage", retryable=question == "q")

    bench.behave = behave
    for _ in range(4):
        with pytest.raises(ProtocolError):
            await bench.ask("q", "key")
    assert sorted(member for member, _ in bench.asked) == ["A", "B", "C", "D"]
    with pytest.raises(ProtocolError):
        await bench.ask("hopeless", "hopeless")
    assert list(bench.balancer.failed_at) == ["key"], "what cannot be asked again is not kept"
    bench.balancer.close()


async def test_a_question_that_comes_again_waits_for_a_member_that_it_did_not_fail_at(
    virtual_time: Any, no_stray_tasks: None
) -> None:
    bench = Bench({"A": 1, "B": 1})
    held = asyncio.Event()

    async def behave(member: str, question: str) -> str:
        if question == "q" and member == "A":
            raise ProtocolError("garbage")
        if question == "held":
            await held.wait()
        return member

    bench.behave = behave
    with pytest.raises(ProtocolError):
        await bench.ask("q", "key")
    holding = asyncio.create_task(bench.ask("held"))
    await asyncio.sleep(0)
    asking = asyncio.create_task(bench.ask("q", "key"))
    await asyncio.sleep(0.001)
    assert not asking.done(), "A is free, and B is not"
    held.set()
    assert await asyncio.gather(holding, asking) == ["B", "B"]
    assert bench.balancer.figures()["members"]["B"]["answered"] == 2
    assert not bench.balancer.failed_at
    bench.balancer.close()


async def test_a_question_that_failed_everywhere_may_go_anywhere(bench: Bench) -> None:
    async def behave(member: str, question: str) -> str:
        raise ProtocolError("garbage")

    bench.behave = behave
    for _ in range(4):
        with pytest.raises(ProtocolError):
            await bench.ask("q", "key")
    assert Counter(member for member, _ in bench.asked) == {"A": 2, "B": 2}


async def test_what_it_remembers_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAILURES_KEPT", 3)

    async def behave(member: str, question: str) -> str:
        raise ProtocolError("garbage")

    bench.behave = behave
    for number in range(9):
        with pytest.raises(ProtocolError):
            await bench.ask("q", f"key{number}")
    assert list(bench.balancer.failed_at) == ["key6", "key7", "key8"]


async def test_a_cancelled_question_gives_its_slot_back_and_one_that_waits_leaves_nothing(bench: Bench) -> None:
    started = asyncio.Event()

    async def behave(member: str, question: str) -> str:
        started.set()
        return await asyncio.Event().wait()

    bench.behave = behave
    asking = [asyncio.create_task(bench.ask(f"q{number}")) for number in range(7)]
    await started.wait()
    for task in reversed(asking):
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    figures = bench.balancer.figures()
    assert (figures["busy"], figures["waiting"]) == (0, 0)
    assert sorted(bench.balancer._free) == ["A", "A", "B", "B"]


# --- any course of events ---


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__(Jumping(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.now += timeout or 0.0
        return super().select(0)


FAILURES: dict[str, Callable[[], StreamingQueueError]] = {
    "lost": lambda: ConnectError("reset"),
    "garbage": lambda: ProtocolError("garbage"),
    "limited": lambda: RateLimitedError("slow down", retry_after_s=3.0),
    "unfit": lambda: AuthError("401"),
}


class AnyCourse(RuleBasedStateMachine):
    """Questions come, end in every way and are cancelled, members come and go, in any order, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.asking: list[asyncio.Task[str]] = []
        self.under_way: list[asyncio.Future[str]] = []

    @initialize(counts=st.lists(st.integers(1, 2), min_size=1, max_size=3), questions=st.integers(0, 9))
    def begin(self, counts: list[int], questions: int) -> None:
        self.bench = Bench({f"M{number}": count for number, count in enumerate(counts)}, probe_interval_s=0.5)
        self.bench.behave = self.behave
        self.bench.healthy.update(self.bench.counts)
        for _ in range(questions):
            self.asked()

    async def behave(self, member: str, question: str) -> str:
        assert self.bench.balancer.figures()["members"][member]["state"] == "up"
        future = self.loop.create_future()
        self.under_way.append(future)
        try:
            return await future
        finally:
            self.under_way.remove(future)

    def settle(self, seconds: float = 0.0) -> None:
        async def pass_time() -> None:
            await asyncio.sleep(seconds)
            for _ in range(8):
                await asyncio.sleep(0)

        self.loop.run_until_complete(pass_time())

    @rule()
    def asked(self) -> None:
        question = f"q{len(self.asking)}"
        self.asking.append(self.loop.create_task(self.bench.ask(question, question)))
        self.settle()

    @precondition(lambda self: self.under_way)
    @rule(index=st.integers(0, 5), outcome=st.sampled_from(["answer", *FAILURES, "lost"]))
    def ended(self, index: int, outcome: str) -> None:
        future = self.under_way[index % len(self.under_way)]
        if outcome == "answer":
            future.set_result("yes")
        else:
            future.set_exception(FAILURES[outcome]())
        self.settle()

    @precondition(lambda self: self.asking)
    @rule(index=st.integers(0, 9))
    def cancelled(self, index: int) -> None:
        self.asking[index % len(self.asking)].cancel()
        self.settle()

    @rule(index=st.integers(0, 2))
    def health_changed(self, index: int) -> None:
        self.bench.healthy ^= {sorted(self.bench.counts)[index % len(self.bench.counts)]}

    @rule(seconds=st.sampled_from([0.3, 1.0, 5.0, 100.0]))
    def time_passed(self, seconds: float) -> None:
        self.settle(seconds)

    @invariant()
    def no_question_waits_beside_a_slot_that_it_may_take(self) -> None:
        assert not self.bench.may_be_given()

    @invariant()
    def every_slot_is_free_or_has_its_question(self) -> None:
        assert self.bench.balancer.figures()["busy"] == sum(self.bench.in_flight.values()) == len(self.under_way)
        assert len(self.bench.balancer._free) + len(self.under_way) == sum(self.bench.counts.values())

    def teardown(self) -> None:
        """Every question comes to its end, and none is lost."""
        while not all(task.done() for task in self.asking):
            assert self.under_way, "a question waits for nobody"
            self.under_way[0].set_result("yes")
            self.settle()
        for task in self.asking:
            assert task.cancelled() or isinstance(task.exception(), StreamingQueueError | None)
        if self.asking:
            assert not self.bench.balancer.figures()["waiting"]
            self.bench.balancer.close()
            self.settle()
        self.loop.close()


TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
