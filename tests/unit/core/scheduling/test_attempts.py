"""Single attempts, in virtual time, with a queue that writes down what it is told."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from unit.core.pool_in_virtual_time import PoolInVirtualTime
from unit.core.virtual_loop import virtually

from streaming_queue.core.scheduling.attempts import Attempts
from streaming_queue.core.scheduling.settings import SchedulerSettings
from streaming_queue.errors import (
    AuthError,
    ConnectError,
    LeaseLostError,
    ProtocolError,
    QueueClosedError,
    RateLimitedError,
    RemoteError,
    SendTimeoutError,
    StreamingQueueError,
    UnavailableError,
)
from streaming_queue.messages import Failure, Question, Result
from streaming_queue.queue.base import Lease
from streaming_queue.telemetry.events import Answered, DeadLettered, Duplicate, Event, Hedged, Retried, Sent

BAD = ProtocolError("garbage")


class NotedQueue:
    """`told` is what it was told of each lease; `lost` are the ids whose lease is another's by now."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.first = True
        self.error: Exception | None = None

    def _note(self, *told: Any) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(told)

    async def commit(self, lease: Lease, result: Result) -> bool:
        self._note("commit", lease.id, result)
        return self.first

    async def retry(self, lease: Lease, delay_s: float, failure: Failure) -> None:
        self._note("retry", lease.id, round(delay_s, 3), failure)

    def sent(self, lease: Lease) -> None:
        pass

    async def release(
        self, lease: Lease, delay_s: float = 0.0, *, failure: Failure | None = None, refused: bool = False
    ) -> None:
        assert refused == (failure is None)
        self._note("release", lease.id, round(delay_s, 3), failure)

    async def bury(self, lease: Lease, failure: Failure) -> None:
        self._note("bury", lease.id, failure)


class Choice:
    """What an automatic choice of protocols is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any]] = []

    def answered(self, worker: str, result: Result) -> None:
        self.told.append(("answered", worker, result))

    def failed(self, worker: str, error: StreamingQueueError) -> None:
        self.told.append(("failed", worker, error))


class Bench:
    def __init__(self, choice: Any = None, **settings: Any) -> None:
        self.queue = NotedQueue()
        self.workers = PoolInVirtualTime({"A": 4, "B": 4}, adaptive=True)
        self.events: list[Event] = []
        self.deadlines: list[float | None] = []
        self.choice = choice
        self.attempts = Attempts(
            self.queue,  # type: ignore[arg-type]
            self.ask,
            self.workers.pool,
            protocol_of=lambda worker: f"protocol of {worker}",
            emit=self.events.append,
            settings=SchedulerSettings.model_construct(**settings),
            choice=choice,
        )
        self.attempts._budget._clock = self.workers.clock.monotonic

    async def answer(self, worker: str, lease: Lease) -> tuple[str, dict[str, Any]]:
        return "fine", {}

    async def ask(self, worker: str, lease: Lease, until: float | None) -> tuple[str, dict[str, Any]]:
        self.deadlines.append(None if until is None else round(until - self.workers.began, 6))
        return await self.answer(worker, lease)

    def fails(self, error: Exception, after_s: float = 0.0) -> None:
        async def answer(worker: str, lease: Lease) -> tuple[str, dict[str, Any]]:
            await asyncio.sleep(after_s)
            raise error

        self.answer = answer  # type: ignore[method-assign]

    def takes(self, seconds: dict[str, float]) -> None:
        async def answer(worker: str, lease: Lease) -> tuple[str, dict[str, Any]]:
            await asyncio.sleep(seconds[worker])
            return worker, {}

        self.answer = answer  # type: ignore[method-assign]

    async def make(self, worker: str = "A", lease: Lease | None = None, **how: Any) -> None:
        await self.attempts.make(worker, lease or self.lease(), **how)

    def begin(self, worker: str, lease: Lease, **how: Any) -> asyncio.Task[None]:
        return asyncio.create_task(self.make(worker, lease, **how))

    def lease(self, name: str = "q", attempt: int = 1, **more: Any) -> Lease:
        options = {"fence": attempt, "waited_ms": 0.0, "leased_at": self.workers.clock.now}
        return Lease(Question("text", name), attempt, **options | more)

    def failure(self, error: Exception, worker: str = "A", seconds: float = 0.0) -> Failure:
        return Failure(
            type(error).__name__, str(error), worker, f"protocol of {worker}", pytest.approx(seconds, abs=1e-6)
        )


# --- answered ---


@virtually
async def test_an_answer_is_recorded_with_what_it_cost() -> None:
    bench = Bench(choice=Choice())

    async def answer(worker: str, lease: Lease) -> tuple[str, dict[str, Any]]:
        await asyncio.sleep(0.5)
        return "größe", {"llm_ms": 200, "ttft_ms": 50.5, "model": "m", "mock": False, "usage": {"total": 3}}

    bench.answer = answer  # type: ignore[method-assign]
    lease = bench.lease(waited_ms=250.0, attempt=3)
    await asyncio.sleep(0.25)
    await bench.make("A", lease)
    result = Result(
        answer="größe",
        worker="A",
        protocol="protocol of A",
        response_time_s=pytest.approx(0.5),
        queue_ms=pytest.approx(500),
        protocol_ms=pytest.approx(300),
        llm_ms=200.0,
        ttft_ms=50.5,
        request_bytes=4,
        response_bytes=7,
        model="m",
        mock=False,
        usage={"total": 3},
    )
    assert bench.queue.told == [("commit", "q", result)]
    assert bench.events == [Sent("q", "A", 3), Answered("q", result, 3)]
    assert bench.choice.told == [("answered", "A", result)]
    assert bench.workers.pool.states()["A"]["answered"] == 1
    assert bench.workers.pool.states()["A"]["busy"] == 0
    assert bench.attempts.in_flight == {}


@pytest.mark.parametrize("wrong", ["12", True, None, [1], {"a": 1}])
def test_figures_of_a_worker_that_are_none_are_none(wrong: Any) -> None:
    @virtually
    async def test() -> None:
        bench = Bench()

        async def answer(worker: str, lease: Lease) -> tuple[str, dict[str, Any]]:
            return "fine", dict.fromkeys(("llm_ms", "ttft_ms", "model", "mock", "usage"), wrong)

        bench.answer = answer  # type: ignore[method-assign]
        await bench.make()
        ((_, _, result),) = bench.queue.told
        assert (result.llm_ms, result.ttft_ms, result.protocol_ms) == (None, None, None)
        assert result.model == (wrong if isinstance(wrong, str) else None)
        assert result.mock == (wrong if isinstance(wrong, bool) else None)
        assert result.usage == (wrong if isinstance(wrong, dict) else None)

    test()


@virtually
async def test_a_protocol_costs_no_less_than_nothing() -> None:
    bench = Bench()

    async def answer(worker: str, lease: Lease) -> tuple[str, dict[str, Any]]:
        return "fine", {"llm_ms": 1e6}

    bench.answer = answer  # type: ignore[method-assign]
    await bench.make()
    assert bench.queue.told[0][2].protocol_ms == 0.0


@virtually
async def test_an_answer_that_was_not_the_first_is_told_as_such() -> None:
    bench = Bench()
    bench.queue.first = False
    await bench.make()
    assert bench.events == [Sent("q", "A", 1), Duplicate("q", "A")]


# --- failed ---


def test_a_retry_waits_for_a_random_share_of_twice_as_long_each_time_up_to_the_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        spans.append((low, high))
        return high / 2

    monkeypatch.setattr(random, "uniform", uniform)

    @virtually
    async def test() -> None:
        bench = Bench(retry_base_s=0.1, retry_cap_s=5.0, max_attempts=2000)
        bench.fails(BAD)
        for attempt in (1, 2, 3, 4, 5, 6, 7, 8, 1999):
            await bench.make(lease=bench.lease(attempt=attempt))
        ceilings = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
        assert spans == [(0, pytest.approx(ceiling)) for ceiling in ceilings]
        assert [told[2] for told in bench.queue.told] == pytest.approx([ceiling / 2 for ceiling in ceilings])

    test()


@virtually
async def test_a_failure_is_an_attempt_and_the_last_one_ends_the_question() -> None:
    bench = Bench(choice=Choice(), max_attempts=3, retry_base_s=0.0)
    bench.fails(BAD, after_s=0.5)
    failure = bench.failure(BAD, seconds=0.5)
    await bench.make("A", bench.lease(attempt=1))
    assert bench.attempts.failed_at == {"q": {"A"}}
    await bench.make("B", bench.lease(attempt=2))
    assert bench.attempts.failed_at == {"q": {"A", "B"}}
    await bench.make("A", bench.lease(attempt=3))
    assert bench.attempts.failed_at == {}
    second = bench.failure(BAD, "B", 0.5)
    assert bench.queue.told == [("retry", "q", 0.0, failure), ("retry", "q", 0.0, second), ("bury", "q", failure)]
    assert [event for event in bench.events if not isinstance(event, Sent)] == [
        Retried("q", failure, 1, counted=True),
        Retried("q", second, 2, counted=True),
        DeadLettered("q", failure, 3),
    ]
    assert bench.choice.told == [("failed", "A", BAD), ("failed", "B", BAD), ("failed", "A", BAD)]
    assert bench.attempts.in_flight == {}
    assert bench.workers.pool.states()["A"]["failed"] == 2


@virtually
async def test_what_cannot_be_retried_ends_the_question() -> None:
    bench = Bench()
    error = RemoteError("no", retryable=False)
    bench.fails(error)
    await bench.make()
    assert bench.queue.told == [("bury", "q", bench.failure(error))]


@virtually
async def test_in_a_storm_a_retry_waits_for_its_budget() -> None:
    bench = Bench(retry_base_s=0.0, retry_per_s=0.2, retry_share=0.0)
    bench.fails(BAD)
    for number in range(16):
        await bench.make(lease=bench.lease(f"q{number}"))
    delays = [told[2] for told in bench.queue.told]
    assert delays[:10] == [0] * 10, "few failures may be the questions' own"
    assert delays[10:] == [0, 0, 10, 10, 20, 20]


@virtually
async def test_a_question_that_no_worker_got_has_all_its_time_again() -> None:
    bench = Bench(question_timeout_s=5.0)
    bench.fails(UnavailableError("refused"))
    await bench.make()
    await asyncio.sleep(60)
    await bench.make()
    assert [told[0] for told in bench.queue.told] == ["release", "release"]


@virtually
async def test_a_blank_answer_is_a_failure() -> None:
    for blank in ("", " \n\t"):
        bench = Bench()

        async def answer(worker: str, lease: Lease, blank: str = blank) -> tuple[str, dict[str, Any]]:
            return blank, {}

        bench.answer = answer  # type: ignore[method-assign]
        await bench.make()
        ((what, _, _, failure),) = bench.queue.told
        assert (what, failure.type) == ("retry", "BadResponseError")


@virtually
async def test_a_truncated_answer_is_marked() -> None:
    for said, kept in ((True, True), (False, None), ("yes", None)):
        bench = Bench()

        async def answer(worker: str, lease: Lease, said: Any = said) -> tuple[str, dict[str, Any]]:
            return "half an", {"truncated": said}

        bench.answer = answer  # type: ignore[method-assign]
        await bench.make()
        ((_, _, result),) = bench.queue.told
        assert result.truncated is kept


@virtually
async def test_a_refused_connection_is_no_loss() -> None:
    bench = Bench(max_attempts=2)
    bench.fails(UnavailableError("refused"))
    await bench.make(lease=bench.lease(losses=1))
    assert bench.queue.told == [("release", "q", 0.0, None)]


@virtually
async def test_a_lost_worker_costs_no_attempt_until_too_many_were_lost() -> None:
    bench = Bench(max_attempts=3)
    error = ConnectError("reset")
    bench.fails(error)
    await bench.make("A", bench.lease(attempt=7, losses=1))
    await bench.make("B", bench.lease(attempt=7, losses=2))
    (_, failure) = bench.queue.told[1][1:]
    assert bench.queue.told[0] == ("release", "q", 0.0, bench.failure(error))
    assert bench.queue.told[1][0] == "bury"
    assert failure.type == "ConnectError"
    assert (failure.worker, failure.protocol) == ("B", "protocol of B")
    assert "3" in failure.message
    assert str(error) in failure.message
    assert [type(event) for event in bench.events] == [Sent, Retried, Sent, DeadLettered]
    assert bench.events[1] == Retried("q", bench.failure(error), 7, counted=False)
    assert [bench.workers.state(worker) for worker in "AB"] == ["down", "down"]
    bench.workers.pool.stop()


@virtually
async def test_a_worker_that_cannot_work_or_wishes_to_slow_down_costs_neither_attempt_nor_loss() -> None:
    bench = Bench(max_attempts=1, retry_per_s=0.1)
    for worker, error in (("A", RateLimitedError("slow down")), ("A", RateLimitedError("slow down"))):
        bench.fails(error)
        await bench.make(worker, bench.lease(losses=50))
    bench.fails(AuthError("no"))
    await bench.make("B", bench.lease(losses=50))
    assert bench.queue.told == [("release", "q", 0.0, None), ("release", "q", 10.0, None), ("release", "q", 0.0, None)]
    assert [bench.workers.state(worker) for worker in "AB"] == ["paused", "out"]
    bench.workers.pool.stop()


@virtually
async def test_a_question_that_fails_at_a_second_worker_is_to_blame_itself() -> None:
    bench = Bench(retry_base_s=0.0, max_attempts=9)
    bench.fails(BAD)
    for number in range(4):
        await bench.make("A", bench.lease(f"q{number}"))
    await bench.make("B", bench.lease("q0", attempt=2))
    await bench.make("A", bench.lease("q4"))
    assert bench.workers.state("A") == "up", "it failed at four others"
    await bench.make("A", bench.lease("q0", attempt=3))
    await bench.make("B", bench.lease("q0", attempt=4))
    assert bench.workers.state("A") == "up", "a third and fourth failure take nothing back, and count for nothing"
    await bench.make("A", bench.lease("q5"))
    assert bench.workers.state("A") == "paused"
    bench.workers.pool.stop()


@virtually
async def test_only_first_attempts_are_held_against_a_worker() -> None:
    bench = Bench(retry_base_s=0.0, max_attempts=9)
    bench.fails(BAD)
    for number in range(9):
        await bench.make("A", bench.lease(f"q{number}", attempt=2))
    assert bench.workers.state("A") == "up"
    for number in range(5):
        await bench.make("A", bench.lease(f"other{number}", attempt=1))
    assert bench.workers.state("A") == "paused"
    bench.workers.pool.stop()


@virtually
async def test_an_answer_ends_what_was_known_of_a_question() -> None:
    bench = Bench(question_timeout_s=50.0, retry_base_s=0.0)
    bench.fails(BAD, after_s=10.0)
    await bench.make()
    bench.takes({"A": 1.0})
    await bench.make(lease=bench.lease(attempt=2))
    assert bench.attempts.failed_at == {}
    await bench.make()
    assert bench.deadlines == [50.0, 50.0, 61.0]


@pytest.mark.parametrize("error", [BAD, RemoteError("no", retryable=False), ConnectError("reset")])
def test_a_lease_that_is_anothers_by_now_is_no_business_of_ours(error: StreamingQueueError) -> None:
    @virtually
    async def test() -> None:
        bench = Bench()
        bench.queue.error = LeaseLostError("gone")
        bench.fails(error)
        await bench.make()
        assert [type(event) for event in bench.events] == [Sent]
        assert bench.attempts.in_flight == {}
        bench.workers.pool.stop()

    test()


@virtually
async def test_an_error_of_the_queue_goes_up() -> None:
    bench = Bench()
    bench.queue.error = QueueClosedError("closed")
    with pytest.raises(QueueClosedError):
        await bench.make()
    assert bench.workers.pool.states()["A"]["busy"] == 0
    assert len(bench.attempts.in_flight) == 1, "its lease is given back"


# --- time ---


@virtually
async def test_an_honest_slow_worker_is_not_cut() -> None:
    bench = Bench()
    bench.takes({"A": 1800.0, "B": 1800.0})
    await bench.make()
    assert bench.queue.told[0][0] == "commit"


@virtually
async def test_a_question_that_hangs_twice_is_given_up() -> None:
    for limit_s, kept_s in ((0.5, 0.5), (3600.0, 3600.0)):
        bench = Bench(max_attempts=5, attempt_timeout_s=limit_s)
        bench.takes({"A": 1e9, "B": 1e9})
        began = bench.workers.now
        for number, worker in enumerate("AB", 1):
            making = asyncio.create_task(bench.make(worker, bench.lease(attempt=number)))
            while not making.done():
                await asyncio.sleep(0.5)
                bench.attempts.expire()
            await making
        assert [told[0] for told in bench.queue.told] == ["retry", "bury"]
        assert bench.queue.told[1][2].type == "SendTimeoutError"
        assert bench.workers.now - began == pytest.approx(2 * kept_s, abs=1.5)


@virtually
async def test_without_limits_a_worker_has_for_ever() -> None:
    bench = Bench(attempt_timeout_s=None)
    bench.takes({"A": 1e6})
    await bench.make()
    assert bench.deadlines == [None]
    assert bench.queue.told[0][0] == "commit"


@virtually
async def test_an_attempt_has_its_time() -> None:
    bench = Bench(attempt_timeout_s=3.0, retry_base_s=0.0)
    bench.takes({"A": 2.9})
    await bench.make()
    bench.takes({"A": 3.1})
    await bench.make()
    assert bench.deadlines == [3.0, 5.9]
    assert [told[0] for told in bench.queue.told] == ["commit", "retry"]
    failure = bench.queue.told[1][3]
    assert (failure.type, failure.response_time_s) == ("SendTimeoutError", pytest.approx(3.0))


@virtually
async def test_a_timeout_of_the_workers_own_passes_as_it_is() -> None:
    bench = Bench(attempt_timeout_s=3.0, retry_base_s=0.0)
    error = SendTimeoutError("the model")
    bench.fails(error, after_s=1.0)
    await bench.make()
    assert bench.queue.told == [("retry", "q", 0.0, bench.failure(error, seconds=1.0))]


@virtually
async def test_a_question_has_its_time_over_all_attempts() -> None:
    bench = Bench(question_timeout_s=5.0, attempt_timeout_s=3.0, retry_base_s=0.0, max_attempts=99)
    bench.takes({"A": 100.0})
    await bench.make(lease=bench.lease("other"))
    await bench.make()
    await bench.make()
    assert bench.deadlines == [3.0, 6.0, 8.0]
    assert [told[:2] for told in bench.queue.told] == [("retry", "other"), ("retry", "q"), ("bury", "q")]
    failure = bench.queue.told[2][2]
    assert (failure.type, failure.worker) == ("SendTimeoutError", "A")
    await bench.make()
    assert bench.deadlines[3] == 11.0, "replayed, it has its time anew"


@pytest.mark.parametrize(("after_s", "end"), [(4.94, "retry"), (4.96, "bury")])
def test_with_too_little_time_left_another_attempt_is_none(after_s: float, end: str) -> None:
    @virtually
    async def test() -> None:
        bench = Bench(question_timeout_s=5.0, retry_base_s=0.0)
        bench.fails(BAD, after_s)
        await bench.make()
        assert bench.queue.told[0][0] == end

    test()


@virtually
async def test_a_question_without_time_is_buried_whose_fault_it_ever_was() -> None:
    bench = Bench(question_timeout_s=5.0)
    bench.fails(ConnectError("reset"), 4.96)
    await bench.make()
    assert bench.queue.told[0][0] == "bury"
    assert bench.queue.told[0][2].type == "SendTimeoutError"
    bench.workers.pool.stop()


# --- asked twice ---


async def usual(bench: Bench, seconds: float = 1.0) -> None:
    """Enough answers for what is slow to be known: more than two seconds."""
    bench.takes({"A": seconds, "B": seconds})
    await asyncio.gather(*(bench.begin("B", bench.lease(f"usual{number}")) for number in range(8)))
    bench.queue.told.clear()
    bench.events.clear()


@virtually
async def test_what_takes_long_elsewhere_is_found_once_it_does() -> None:
    bench = Bench(hedge=True)
    assert bench.attempts.slowest("B", but=()) is None
    await usual(bench)
    bench.takes({"A": 100.0, "B": 100.0})
    first, second = bench.lease("first"), bench.lease("second")
    tasks = [bench.begin("A", first)]
    await asyncio.sleep(1)
    tasks.append(bench.begin("A", second))
    await asyncio.sleep(0.99)
    assert bench.attempts.slowest("B", but=()) is None
    await asyncio.sleep(0.02)
    assert bench.attempts.slowest("B", but=()) is first
    assert bench.attempts.slowest("A", but=()) is None, "it has it"
    assert bench.attempts.slowest("B", but={"first"}) is None, "the second does not take long yet"
    await asyncio.sleep(1)
    assert bench.attempts.slowest("B", but={"first"}) is second
    tasks.append(bench.begin("B", first, is_duplicate=True))
    await asyncio.sleep(50)
    assert bench.attempts.slowest("C", but=()) is second, "one that is asked twice is asked no third time"
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert bench.attempts.slowest("C", but={"second"}) is None


@virtually
async def test_without_a_wish_nothing_is_asked_twice() -> None:
    bench = Bench()
    await usual(bench)
    bench.takes({"A": 100.0})
    task = bench.begin("A", bench.lease())
    await asyncio.sleep(99)
    assert bench.attempts.slowest("B", but=()) is None
    await task


@virtually
async def test_the_first_answer_counts_and_the_other_worker_is_told_to_stop() -> None:
    bench = Bench(hedge=True)
    await usual(bench)
    bench.takes({"A": 100.0, "B": 1.0})
    lease = bench.lease()
    slow = bench.begin("A", lease)
    await asyncio.sleep(3)
    other = bench.begin("A", bench.lease("other"))
    quick = bench.begin("B", lease, is_duplicate=True)
    assert await asyncio.gather(slow, quick) == [None, None]
    assert bench.workers.now == 5.0
    assert [(told[:2], told[2].worker) for told in bench.queue.told] == [(("commit", "q"), "B")]
    assert [type(event) for event in bench.events] == [Sent, Sent, Hedged, Answered]
    assert bench.events[2] == Hedged("q", "B")
    assert bench.attempts.hedging is not None
    assert bench.attempts.hedging.duplicates == 1
    assert bench.workers.pool.states()["A"]["failed"] == 0
    assert not other.done(), "it is another question"
    await other


@virtually
async def test_one_that_fails_leaves_the_question_to_the_other_unless_its_lease_is_newer() -> None:
    bench = Bench(hedge=True, retry_base_s=0.0)
    await usual(bench)
    bench.takes({"A": 100.0})
    slow = bench.begin("A", bench.lease(fence=2))
    await asyncio.sleep(3)
    bench.fails(BAD)
    await bench.make("B", bench.lease(fence=2), is_duplicate=True)
    await bench.make("B", bench.lease(fence=1))
    assert bench.queue.told == []
    assert bench.workers.pool.states()["B"]["failed"] == 2
    await bench.make("B", bench.lease(fence=3))
    assert [told[0] for told in bench.queue.told] == ["retry"]
    await slow


# --- from outside ---


@virtually
async def test_what_a_worker_has_is_given_up_and_goes_elsewhere() -> None:
    bench = Bench()
    bench.takes({"A": 100.0, "B": 1.0})
    tasks = [bench.begin("A", bench.lease("first")), bench.begin("A", bench.lease("second"))]
    tasks.append(bench.begin("B", bench.lease("third")))
    await asyncio.sleep(0.5)
    bench.workers.pool.give_up("A", ConnectError("gone"))
    await asyncio.gather(*tasks)
    assert bench.workers.now == 1.0
    assert sorted(told[:2] for told in bench.queue.told) == [
        ("commit", "third"),
        ("release", "first"),
        ("release", "second"),
    ]
    bench.workers.pool.stop()


@virtually
async def test_all_that_wait_hear_of_the_last_attempt_of_a_draining_worker() -> None:
    bench = Bench()
    bench.takes({"A": 2.0, "B": 1.0})
    tasks = [bench.begin("A", bench.lease("first")), bench.begin("B", bench.lease("second"))]
    await asyncio.sleep(0.5)
    bench.workers.pool.drain("A")
    waiting = [asyncio.create_task(bench.workers.pool.changed(9)) for _ in range(3)]
    await asyncio.sleep(0.1)
    waiting[1].cancel()
    await asyncio.gather(waiting[0], waiting[2])
    assert bench.workers.now == 2.0
    assert bench.workers.pool.workers["A"].busy == 0
    await asyncio.gather(*tasks)


@virtually
async def test_a_cancelled_attempt_stays_for_its_lease_to_be_given_back() -> None:
    bench = Bench()
    bench.takes({"A": 100.0})
    task = bench.begin("A", bench.lease())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait({task})
    assert [attempt.lease.id for attempt in bench.attempts.in_flight] == ["q"]
    assert bench.workers.pool.states()["A"]["busy"] == 0
    assert bench.queue.told == []
