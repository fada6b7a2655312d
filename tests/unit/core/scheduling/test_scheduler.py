from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from streaming_queue.core.pool import worker_pool
from streaming_queue.core.pool.worker_health import WorkerHealth
from streaming_queue.core.scheduling.auto import ProtocolChoice
from streaming_queue.core.scheduling.scheduler import Scheduler, SchedulerSettings
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
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
from streaming_queue.telemetry.events import (
    Answered,
    DeadLettered,
    Event,
    Hedged,
    Notice,
    Retried,
    WorkerDown,
    WorkerJoined,
    WorkerLeft,
    WorkerUp,
)

pytestmark = pytest.mark.usefixtures("virtual_time", "no_stray_tasks")


def now() -> float:
    return asyncio.get_running_loop().time()


class Pool:
    """Workers by script: `behave(worker_id, lease)` answers or raises; `healthy` is what a probe finds."""

    def __init__(
        self,
        queue: MemoryQueue,
        workers: int = 3,
        choice: ProtocolChoice | None = None,
        may_end: Callable[[], Awaitable[bool]] | None = None,
        **settings: Any,
    ) -> None:
        self.queue = queue
        self.events: list[Event] = []
        self.asked: list[tuple[str, str]] = []
        self.healthy: set[str] = set()
        self.in_flight: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.intake_done = asyncio.Event()
        self.intake_done.set()
        options = {"concurrency": 2, "retry_base_s": 0.001, "probe_interval_s": 0.01, "no_worker_timeout_s": 0.2}
        self.scheduler = Scheduler(
            queue,
            lambda *call: self.ask(*call),  # noqa: PLW0108
            [f"W{number + 1}" for number in range(workers)],
            probe=lambda worker_id: self.probe(worker_id),  # noqa: PLW0108 - a test gives another
            protocol_of=lambda _: "test",
            emit=lambda event: self.emit(event),  # noqa: PLW0108
            settings=SchedulerSettings.model_construct(**options | settings),
            intake_done=self.intake_done,
            choice=choice,
        )
        self.scheduler.may_end = may_end
        self.scheduler._attempts._budget._clock = now
        for worker in self.scheduler.pool.workers.values():
            worker.breaker._clock = now

    async def behave(self, worker_id: str, lease: Lease) -> str:
        return f"{lease.question.text}!"

    async def ask(self, worker_id: str, lease: Lease, deadline: float | None) -> tuple[str, Mapping[str, Any]]:
        self.asked.append((worker_id, lease.id))
        self.in_flight[worker_id] += 1
        self.most[worker_id] = max(self.most[worker_id], self.in_flight[worker_id])
        try:
            await asyncio.sleep(0)
            return await self.behave(worker_id, lease), {"llm_ms": 0.0, "mock": True}
        finally:
            self.in_flight[worker_id] -= 1

    async def probe(self, worker_id: str) -> bool:
        return worker_id in self.healthy

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def run(self) -> bool:
        async with asyncio.timeout(10):
            return await self.scheduler.run()


@pytest.fixture
async def queue():
    queue = MemoryQueue(clock=now)
    yield queue
    await queue.close()


async def fill(queue: MemoryQueue, count: int) -> None:
    await queue.put([Question(f"text {number}", f"q{number}") for number in range(count)])


async def test_every_question_is_answered_once(queue: MemoryQueue) -> None:
    await fill(queue, 300)
    pool = Pool(queue, batch_size=16)
    assert await pool.run()
    assert sorted(event.question_id for event in pool.of(Answered)) == sorted(f"q{number}" for number in range(300))
    outcomes = await queue.results()
    assert {outcome.result.answer for outcome in outcomes} == {f"text {number}!" for number in range(300)}
    assert all(outcome.result.protocol_ms >= 0 for outcome in outcomes)


async def test_no_worker_has_more_in_flight_than_slots_and_all_slots_are_used(queue: MemoryQueue) -> None:
    await fill(queue, 60)
    pool = Pool(queue, concurrency=4)

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.005)
        return "yes"

    pool.behave = behave
    await pool.run()
    assert set(pool.most.values()) == {4}


async def test_workers_may_have_different_numbers_of_slots(queue: MemoryQueue) -> None:
    await fill(queue, 100)
    pool = Pool(queue, concurrency=2, slots={"W1": 7, "W3": 1})

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.005)
        return "yes"

    pool.behave = behave
    await pool.run()
    assert pool.most == {"W1": 7, "W2": 2, "W3": 1}


async def test_a_slow_worker_does_not_hold_the_others_back(queue: MemoryQueue) -> None:
    await fill(queue, 100)
    pool = Pool(queue)

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.2 if worker_id == "W1" else 0.002)
        return "yes"

    pool.behave = behave
    await pool.run()
    by_worker = Counter(worker_id for worker_id, _ in pool.asked)
    assert by_worker["W1"] <= 6
    assert sum(by_worker.values()) == 100


async def test_a_failed_question_goes_to_another_worker(queue: MemoryQueue) -> None:
    await fill(queue, 50)
    pool = Pool(queue)

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1":
            raise ProtocolError("garbage")
        await asyncio.sleep(0.001)
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert len(pool.of(Answered)) == 50
    for question_id in {asked for worker_id, asked in pool.asked if worker_id == "W1"}:
        workers = [worker_id for worker_id, asked in pool.asked if asked == question_id]
        assert workers.count("W1") == 1


async def test_a_question_that_always_fails_is_buried_after_max_attempts_with_its_reason(queue: MemoryQueue) -> None:
    await fill(queue, 3)
    pool = Pool(queue, max_attempts=4)

    async def behave(worker_id: str, lease: Lease) -> str:
        if lease.id == "q1":
            raise AgentFailedError("cannot")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    (buried,) = pool.of(DeadLettered)
    assert (buried.question_id, buried.attempt, buried.failure.type) == ("q1", 4, "AgentFailedError")
    assert len([1 for _, asked in pool.asked if asked == "q1"]) == 4
    counts = await queue.counts()
    assert (counts.done, counts.dead) == (2, 1)


async def test_what_cannot_be_retried_is_buried_at_once(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    pool = Pool(queue)

    async def behave(worker_id: str, lease: Lease) -> str:
        raise RemoteError("400: the text is too long", retryable=False)

    pool.behave = behave
    assert await pool.run()
    assert len(pool.asked) == 1
    assert pool.of(DeadLettered)[0].failure.message == "400: the text is too long"


async def test_a_dead_workers_questions_go_to_others_uncounted(queue: MemoryQueue) -> None:
    await fill(queue, 200)
    pool = Pool(queue, workers=4)

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1":
            raise ConnectError("refused")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert len(pool.of(Answered)) == 200
    assert {event.attempt for event in pool.of(Answered)} == {1}
    assert all(not event.counted for event in pool.of(Retried))
    assert len([1 for worker_id, _ in pool.asked if worker_id == "W1"]) <= 2
    assert len(pool.of(WorkerDown)) == 1


async def test_a_lost_worker_is_asked_again_when_its_probe_succeeds(queue: MemoryQueue) -> None:
    await fill(queue, 40)
    pool = Pool(queue, workers=1)
    broken = True

    async def behave(worker_id: str, lease: Lease) -> str:
        nonlocal broken
        if broken:
            broken = False
            asyncio.get_running_loop().call_later(0.05, pool.healthy.add, worker_id)
            raise ConnectError("reset")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert len(pool.of(Answered)) == 40
    assert len(pool.of(WorkerUp)) == 1


async def test_with_no_worker_left_the_run_stops_and_the_questions_keep_their_place(queue: MemoryQueue) -> None:
    await fill(queue, 150)
    pool = Pool(queue, workers=2)

    async def behave(worker_id: str, lease: Lease) -> str:
        if len(pool.asked) > 20:
            raise UnavailableError(f"{worker_id} is gone")
        return "yes"

    pool.behave = behave
    started = now()
    with pytest.raises(UnavailableError, match=r"no worker was reachable for 0\.2 s"):
        await pool.run()
    assert now() - started >= 0.2
    counts, stats = await queue.counts(), await queue.stats()
    assert (counts.dead, counts.leased, counts.done + counts.ready) == (0, 0, 150)
    assert counts.done >= 15
    assert (stats["losses"], stats["re_executions"]) == (0, 0)
    assert len(pool.asked) <= 21 + 4, "without a worker no question is tried"


async def test_poison_is_buried_after_it_outlived_as_many_workers_as_attempts_are_allowed(queue: MemoryQueue) -> None:
    await fill(queue, 20)
    pool = Pool(queue, workers=3, max_attempts=3, no_worker_timeout_s=5.0)
    pool.healthy = {"W1", "W2", "W3"}

    async def behave(worker_id: str, lease: Lease) -> str:
        if lease.id == "q7":
            raise ConnectError("reset")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    (buried,) = pool.of(DeadLettered)
    assert buried.question_id == "q7"
    assert "lost 3 workers" in buried.failure.message
    assert len(pool.of(Answered)) == 19


async def test_a_rate_limited_worker_is_left_alone_for_as_long_as_it_asked(queue: MemoryQueue) -> None:
    await fill(queue, 20)
    pool = Pool(queue, workers=1, concurrency=1)
    limited_at: list[float] = []

    async def behave(worker_id: str, lease: Lease) -> str:
        if not limited_at:
            limited_at.append(now())
            raise RateLimitedError("slow down", retry_after_s=0.3)
        limited_at.append(now())
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert limited_at[1] - limited_at[0] >= 0.3
    assert len(pool.of(Answered)) == 20
    assert not pool.of(DeadLettered)


@pytest.mark.parametrize("error", [AuthError("401"), QuotaError("no credit left")])
async def test_when_no_worker_can_work_the_run_stops_and_keeps_the_questions(
    queue: MemoryQueue, error: StreamingQueueError
) -> None:
    await fill(queue, 30)
    pool = Pool(queue)

    async def behave(worker_id: str, lease: Lease) -> str:
        raise error

    pool.behave = behave
    with pytest.raises(type(error)):
        await pool.run()
    counts = await queue.counts()
    assert (counts.ready, counts.leased, counts.done, counts.dead) == (30, 0, 0, 0)
    assert all(lease.attempt == 1 for lease in await queue.lease(30))


async def test_one_worker_with_wrong_credentials_does_not_stop_the_others(queue: MemoryQueue) -> None:
    await fill(queue, 30)
    pool = Pool(queue)

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W2":
            raise AuthError("401")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert len(pool.of(Answered)) == 30
    assert [event.final for event in pool.of(WorkerDown)] == [True]


async def test_a_drain_finishes_what_is_in_flight_and_gives_the_rest_back(queue: MemoryQueue) -> None:
    await fill(queue, 100)
    pool = Pool(queue, workers=2)
    started = asyncio.Event()
    release = asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        started.set()
        await release.wait()
        return "yes"

    pool.behave = behave
    run = asyncio.create_task(pool.run())
    await started.wait()
    pool.scheduler.drain()
    asyncio.get_running_loop().call_later(0.05, release.set)
    assert await run is False
    counts = await queue.counts()
    assert (counts.done, counts.leased, counts.ready) == (4, 0, 96)


async def test_a_drain_is_bounded_and_gives_back_what_did_not_end(queue: MemoryQueue) -> None:
    await fill(queue, 10)
    pool = Pool(queue, workers=1, drain_s=0.1)
    started = asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        started.set()
        return await asyncio.Event().wait()

    pool.behave = behave
    run = asyncio.create_task(pool.run())
    await started.wait()
    pool.scheduler.drain()
    assert await run is False
    assert (await queue.counts()).ready == 10


async def test_it_waits_for_an_intake_that_goes_on(queue: MemoryQueue) -> None:
    pool = Pool(queue)
    pool.intake_done.clear()
    run = asyncio.create_task(pool.run())
    for number in range(5):
        await asyncio.sleep(0.01)
        await queue.put([Question(f"late {number}")])
    pool.intake_done.set()
    assert await run
    assert len(pool.of(Answered)) == 5


async def test_cancelling_the_run_gives_every_lease_back(queue: MemoryQueue) -> None:
    await fill(queue, 50)
    pool = Pool(queue)
    started = asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        started.set()
        return await asyncio.Event().wait()

    pool.behave = behave
    run = asyncio.create_task(pool.run())
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    counts = await queue.counts()
    assert (counts.ready, counts.leased) == (50, 0)


async def test_leases_are_kept_while_a_question_takes_longer_than_they_last() -> None:
    queue = MemoryQueue(lease_s=0.15, clock=now)
    await fill(queue, 2)
    pool = Pool(queue, workers=2, concurrency=1, lease_s=0.15)

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.5)
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert len(pool.asked) == 2
    assert (await queue.stats())["re_executions"] == 0
    await queue.close()


async def test_a_rate_limit_of_zero_seconds_is_no_busy_loop(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    pool = Pool(queue, workers=1, concurrency=1, drain_s=0.1)

    async def behave(worker_id: str, lease: Lease) -> str:
        raise RateLimitedError("slow down", retry_after_s=0.0)

    pool.behave = behave
    asyncio.get_running_loop().call_later(0.5, pool.scheduler.drain)
    assert not await pool.run()
    assert len(pool.asked) <= 10


async def test_the_pause_before_a_retry_is_capped_at_any_number_of_attempts(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    pool = Pool(queue, workers=1, max_attempts=1100, retry_cap_s=0.0001, retry_per_s=1e6)

    async def behave(worker_id: str, lease: Lease) -> str:
        raise ProtocolError("garbage")

    pool.behave = behave
    assert await pool.run()
    assert len(pool.asked) == 1100


# --- calm ---


def pool_of_one_bad(queue: MemoryQueue, error: Exception, **settings: Any) -> Pool:
    pool = Pool(queue, **settings)

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1":
            raise error
        await asyncio.sleep(0.001)
        return "yes"

    pool.behave = behave
    return pool


@pytest.mark.parametrize("retryable", [True, False])
async def test_a_worker_that_fails_fast_is_left_alone_before_it_has_eaten_the_queue(
    queue: MemoryQueue, retryable: bool
) -> None:
    await fill(queue, 500)
    pool = pool_of_one_bad(queue, RemoteError("500", retryable=retryable))
    assert await pool.run()
    assert len([1 for worker_id, _ in pool.asked if worker_id == "W1"]) <= 7
    (down,) = pool.of(WorkerDown)
    assert "keeps failing, last: 500" in down.reason


async def test_poison_ejects_nobody(queue: MemoryQueue) -> None:
    await fill(queue, 200)
    pool = Pool(queue, workers=4, max_attempts=3)

    async def behave(worker_id: str, lease: Lease) -> str:
        if int(lease.id[1:]) % 20 == 7:
            raise AgentFailedError("I cannot read this")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert len(pool.of(DeadLettered)) == 10
    assert len(pool.of(Answered)) == 190
    assert not pool.of(WorkerDown)


async def test_never_more_than_half_of_the_workers_are_left_alone(queue: MemoryQueue) -> None:
    await fill(queue, 60)
    pool = Pool(queue, workers=4, max_attempts=2, retry_per_s=1e6)

    async def behave(worker_id: str, lease: Lease) -> str:
        raise RemoteError("500")

    pool.behave = behave
    assert await pool.run()
    assert len({event.worker for event in pool.of(WorkerDown)}) == 2
    assert len(pool.of(DeadLettered)) == 60


async def test_in_a_storm_of_failures_retries_keep_to_their_budget(queue: MemoryQueue) -> None:
    await fill(queue, 200)
    pool = Pool(queue, workers=1, drain_s=0.1, retry_per_s=3.0, retry_share=0.1)

    async def behave(worker_id: str, lease: Lease) -> str:
        if int(lease.id[1:]) % 4:
            raise RemoteError("503")
        return "yes"

    pool.behave = behave
    asyncio.get_running_loop().call_later(1.0, pool.scheduler.drain)
    assert not await pool.run()
    assert 200 < len(pool.asked) <= 200 + 30 + 0.1 * len(pool.asked) + 1


async def test_retries_are_free_while_most_questions_are_answered(queue: MemoryQueue) -> None:
    await fill(queue, 2000)
    pool = Pool(queue, workers=3, concurrency=8, retry_base_s=0.1)
    pool.healthy = {"W1", "W2", "W3"}
    dice = random.Random(7)

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.1)
        if dice.random() < 0.2:
            raise ProtocolError("garbage")
        return "yes"

    pool.behave = behave
    began = now()
    async with asyncio.timeout(60):
        assert await pool.scheduler.run()
    ideal = 2000 / 0.8 / 24 * 0.1
    assert now() - began < 1.5 * ideal
    assert (await queue.counts()).done > 1990


async def test_when_all_that_are_left_keep_failing_few_questions_lose_an_attempt(queue: MemoryQueue) -> None:
    await fill(queue, 1000)
    pool = Pool(queue, workers=4, drain_s=0.1, retry_per_s=3.0)
    provider_is_up = asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        if not provider_is_up.is_set():
            raise RemoteError("503")
        return "yes"

    pool.behave = behave
    asyncio.get_running_loop().call_later(1.0, provider_is_up.set)
    asyncio.get_running_loop().call_later(2.0, pool.scheduler.drain)
    await pool.run()
    assert len(pool.of(Retried)) < 100
    assert len(pool.of(Answered)) > 800
    warning, good = pool.of(Notice)
    assert "all remaining workers keep failing" in warning.text
    assert good.text.endswith("answer again")
    assert not len(pool.scheduler.pool._degraded_rate)


async def test_in_a_storm_of_rate_limits_too(queue: MemoryQueue) -> None:
    await fill(queue, 100)
    pool = Pool(queue, workers=2, concurrency=8, drain_s=0.1)

    async def behave(worker_id: str, lease: Lease) -> str:
        raise RateLimitedError("slow down", retry_after_s=0.0)

    pool.behave = behave
    asyncio.get_running_loop().call_later(1.5, pool.scheduler.drain)
    assert not await pool.run()
    again = len(pool.asked) - len({asked for _, asked in pool.asked})
    assert again <= 30 + 0.1 * len(pool.asked) + 1


async def test_a_silent_worker_is_found_and_its_questions_go_elsewhere(queue: MemoryQueue) -> None:
    await fill(queue, 60)
    pool = Pool(queue, workers=3, gone_after_s=0.1)
    pool.healthy = {"W2", "W3"}

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1":
            return await asyncio.Event().wait()
        await asyncio.sleep(0.005)
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert len(pool.of(Answered)) == 60
    assert {event.attempt for event in pool.of(Answered)} == {1}
    assert [event.worker for event in pool.of(WorkerDown)] == ["W1"]
    assert pool.in_flight["W1"] == 0


async def test_a_worker_that_answers_its_probe_may_take_its_time(queue: MemoryQueue) -> None:
    await fill(queue, 4)
    pool = Pool(queue, workers=2, gone_after_s=0.05)
    pool.healthy = {"W1", "W2"}

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.3)
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert not pool.of(WorkerDown)
    assert len(pool.asked) == 4


async def test_a_worker_that_came_back_is_given_more_and_more(queue: MemoryQueue) -> None:
    await fill(queue, 100_000)
    pool = Pool(queue, workers=2, concurrency=8, drain_s=0.1)
    pool.healthy = {"W1"}
    broken = True

    async def behave(worker_id: str, lease: Lease) -> str:
        nonlocal broken
        if worker_id == "W1" and broken:
            broken = False
            raise ConnectError("reset")
        await asyncio.sleep(0.002)
        if pool.of(WorkerUp):
            pool.scheduler.drain()
            await asyncio.sleep(10)
        return "yes"

    pool.behave = behave
    assert not await pool.run()
    worker = pool.scheduler.pool.workers["W1"]
    assert worker.began_anew is not None
    assert worker.limit(spared=True) <= 2
    worker.began_anew -= 5.0
    assert worker.limit(spared=True) in (4, 5)
    worker.began_anew -= 6.0
    assert worker.limit(spared=True) == 8


async def test_each_answer_earns_a_worker_that_came_back_one_slot_more() -> None:
    worker = WorkerHealth("W1", slots=4, began_anew=now())
    assert worker.limit(spared=True) == 1
    assert worker.limit(spared=False) == 4
    worker.proven = 2
    assert worker.limit(spared=True) == 3
    worker.proven = 3
    assert worker.limit(spared=True) == 4
    assert worker.began_anew is None


async def test_a_worker_that_came_back_is_asked_one_question_first(queue: MemoryQueue) -> None:
    await fill(queue, 5000)
    pool = Pool(queue, workers=2, concurrency=4, drain_s=0.1, probe_interval_s=0.1)
    pool.healthy = {"W1", "W2"}
    broken, under_way = True, 0

    async def behave(worker_id: str, lease: Lease) -> str:
        nonlocal broken, under_way
        if worker_id == "W1" and broken:
            broken = False
            raise ConnectError("reset")
        if worker_id == "W1" and pool.of(WorkerUp):
            await asyncio.sleep(0.005)
            under_way = max(under_way, pool.in_flight["W1"])
            pool.scheduler.drain()
        await asyncio.sleep(0.02)
        return "yes"

    pool.behave = behave
    assert not await pool.run()
    assert under_way == 1


async def test_a_worker_that_answers_again_has_all_its_slots_long_before_ten_seconds(queue: MemoryQueue) -> None:
    await fill(queue, 10_000)
    pool = Pool(queue, workers=2, concurrency=4, drain_s=0.1, probe_interval_s=0.1)
    pool.healthy = {"W1", "W2"}
    broken, answers = True, 0

    async def behave(worker_id: str, lease: Lease) -> str:
        nonlocal broken, answers
        if worker_id == "W1" and broken:
            broken = False
            raise ConnectError("reset")
        await asyncio.sleep(0.01)
        if worker_id == "W1" and pool.of(WorkerUp):
            answers += 1
            if answers > 12 and pool.in_flight["W1"] == 4:
                pool.scheduler.drain()
        return "yes"

    pool.behave = behave
    began = now()
    assert not await pool.run()
    assert now() - began < 1.5


async def test_one_silent_worker_does_not_delay_finding_the_next(
    queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "PROBE_TIMEOUT_S", 0.4)
    await fill(queue, 10_000)
    pool = Pool(queue, workers=3, concurrency=1, drain_s=0, probe_interval_s=0.1)
    began, silent = now(), asyncio.Event()
    found: list[float] = []

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1" or (worker_id == "W2" and now() - began > 0.2):
            await silent.wait()
        await asyncio.sleep(0.005)
        while len(found) < len(pool.of(WorkerDown)):
            found.append(now())
        if len(found) == 2:
            pool.scheduler.drain()
        return "yes"

    async def probe(worker_id: str) -> bool:
        return worker_id == "W3" or await silent.wait()

    pool.behave, pool.probe = behave, probe
    assert not await pool.run()
    assert [event.worker for event in pool.of(WorkerDown)] == ["W1", "W2"]
    assert found[1] - found[0] < 0.7  # it became silent 0.2 s later; one after the other would be 0.9


async def test_an_attempt_has_its_time_and_a_question_too(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    pool = Pool(queue, workers=2, attempt_timeout_s=0.2, question_timeout_s=0.3, max_attempts=1000)
    deadlines: list[float] = []
    ask = pool.ask

    async def behave(worker_id: str, lease: Lease) -> str:
        return await asyncio.Event().wait()

    async def noting(worker_id: str, lease: Lease, deadline: float | None) -> Any:
        deadlines.append(deadline)
        return await ask(worker_id, lease, deadline)

    pool.behave = behave
    pool.ask = noting
    pool.healthy = {"W1", "W2"}
    started = now()
    assert await pool.run()
    (buried,) = pool.of(DeadLettered)
    assert buried.failure.type == "SendTimeoutError"
    assert "scheduler.question_timeout_s (0.3 s)" in buried.failure.message
    assert now() - started >= 0.2
    assert len(deadlines) >= 2
    assert max(deadlines) <= deadlines[0] + 0.3


# --- duplicates of the slow ones ---


async def one_slow(pool: Pool) -> None:
    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(5.0 if worker_id == "W1" else 0.005)
        return worker_id

    pool.behave = behave
    pool.healthy = {"W1", "W2", "W3"}
    assert await pool.run()


async def test_at_the_end_what_is_slow_is_asked_elsewhere_too_and_the_loser_is_cancelled(queue: MemoryQueue) -> None:
    await fill(queue, 60)
    pool = Pool(queue, hedge=True)
    started = now()
    await one_slow(pool)
    assert now() - started < 4.0
    assert len(pool.of(Answered)) == 60
    assert {event.worker for event in pool.of(Hedged)} <= {"W2", "W3"}
    assert len(pool.of(Hedged)) == 2
    assert pool.in_flight["W1"] == 0
    assert (await queue.stats())["late_duplicates_rejected"] == 0


async def test_nothing_is_asked_twice_unless_it_is_wished(queue: MemoryQueue) -> None:
    await fill(queue, 12)
    pool = Pool(queue, concurrency=1)

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.5 if worker_id == "W1" else 0.002)
        return "yes"

    pool.behave = behave
    pool.healthy = {"W1", "W2", "W3"}
    assert await pool.run()
    assert len(pool.asked) == 12


async def test_a_duplicate_that_fails_leaves_the_question_where_it_was(queue: MemoryQueue) -> None:
    await fill(queue, 40)
    pool = Pool(queue, hedge=True, workers=2)
    pool.healthy = {"W1", "W2"}

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1":
            await asyncio.sleep(0.5)
        elif pool.of(Hedged):
            raise RemoteError("500")
        return worker_id

    pool.behave = behave
    assert await pool.run()
    assert pool.of(Hedged)
    assert len(pool.of(Answered)) == 40
    assert not pool.of(Retried)


# --- who joins and leaves ---


async def test_a_worker_joins_a_round_under_way(queue: MemoryQueue) -> None:
    await fill(queue, 60)
    pool = Pool(queue, workers=1)

    async def behave(worker_id: str, lease: Lease) -> str:
        if len(pool.asked) == 10:
            pool.scheduler.add_worker("W9")
            pool.scheduler.add_worker("W9")
        await asyncio.sleep(0.002)
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert [event.worker for event in pool.of(WorkerJoined)] == ["W9"]
    assert pool.most["W9"] == 2


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_worker_leaves_a_round_under_way(queue: MemoryQueue, at_once: bool) -> None:
    await fill(queue, 60)
    pool = Pool(queue, workers=2)
    pool.healthy = {"W1", "W2"}  # on a busy machine both may be silent for longer than a probe waits
    gate = asyncio.Event()
    leaving: list[asyncio.Task[None]] = []

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1":
            if not leaving:
                leaving.append(asyncio.create_task(pool.scheduler.remove_worker("W1", at_once=at_once)))
                asyncio.get_running_loop().call_later(0.05, gate.set)
            await gate.wait()
        await asyncio.sleep(0.002)
        return worker_id

    pool.behave = behave
    assert await pool.run()
    await leaving[0]
    assert [event.worker for event in pool.of(WorkerLeft)] == ["W1"]
    by_worker = Counter(event.result.worker for event in pool.of(Answered))
    assert by_worker["W1"] == (0 if at_once else 2)
    assert by_worker.total() == 60
    assert {event.attempt for event in pool.of(Answered)} == {1}


async def test_a_pause_hands_out_nothing_gives_back_what_waits_and_ends_what_is_in_flight(queue: MemoryQueue) -> None:
    await fill(queue, 40)
    pool = Pool(queue, workers=2, batch_size=16)
    gate, asked = asyncio.Event(), asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        if len(pool.asked) == 4:
            asked.set()
        await gate.wait()
        return "yes"

    pool.behave = behave
    running = asyncio.create_task(pool.run())
    await asked.wait()
    assert (await queue.counts()).leased > 4
    await pool.scheduler.pause()
    assert (await queue.counts()).leased == 4
    gate.set()
    while (await queue.counts()).leased:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert (await queue.counts()).done == len(pool.asked) == 4
    assert not running.done()
    pool.scheduler.unpause()
    assert await running
    assert (await queue.counts()).done == 40
    assert (await queue.stats())["re_executions"] == 0


async def test_a_paused_run_can_be_drained(queue: MemoryQueue) -> None:
    await fill(queue, 10)
    pool = Pool(queue)
    await pool.scheduler.pause()
    pool.scheduler.drain()
    assert not await pool.run()
    assert pool.asked == []


async def test_no_duplicate_is_sent_while_paused(queue: MemoryQueue) -> None:
    await fill(queue, 30)
    pool = Pool(queue, workers=2, hedge=True)
    last, gate = asyncio.Event(), asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        if lease.id == "q29":
            last.set()
            await gate.wait()
        return "yes"

    pool.behave = behave
    running = asyncio.create_task(pool.run())
    await last.wait()
    await pool.scheduler.pause()
    while (await queue.counts()).open > 1:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.2)
    assert not pool.of(Hedged)
    gate.set()
    assert await running


async def test_the_end_is_asked_for_and_put_off_while_something_is_put_back(queue: MemoryQueue) -> None:
    await fill(queue, 3)
    answers = iter([False, True])

    async def may_end() -> bool:
        ends = next(answers)
        if not ends:
            await fill(queue, 5)
        return ends

    assert await Pool(queue, may_end=may_end).run()
    assert (await queue.counts()).done == 5
