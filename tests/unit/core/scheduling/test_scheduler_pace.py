"""When the scheduler does what, to the hundredth of a second of virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from unit.core.scheduling.test_scheduler import Pool, fill, now, queue

from streaming_queue.errors import AuthError, LeaseLostError, ProtocolError, RateLimitedError, UnavailableError
from streaming_queue.queue.base import Lease
from streaming_queue.queue.memory import MemoryQueue
from streaming_queue.telemetry.events import DeadLettered, Hedged, Waiting, WaitOver

__all__ = ["queue"]
pytestmark = pytest.mark.usefixtures("virtual_time", "no_stray_tasks")


def takes(pool: Pool, seconds: float) -> None:
    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(seconds)
        return worker_id

    pool.behave = behave  # type: ignore[method-assign]
    pool.healthy = {"W1", "W2", "W3"}


def noted(queue: MemoryQueue, method: str) -> list[Any]:
    """The arguments of each call of the queue's method, and when it was made."""
    calls: list[Any] = []
    kept = getattr(queue, method)
    began = now()

    async def note(*arguments: Any, **options: Any) -> Any:
        calls.append((round(now() - began, 2), arguments))
        return await kept(*arguments, **options)

    setattr(queue, method, note)
    return calls


async def test_it_ends_with_the_last_answer(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    pool = Pool(queue)
    takes(pool, 2.22)
    began = now()
    assert await pool.run()
    assert now() - began == pytest.approx(2.22, abs=0.01)


async def test_it_drains_at_once_and_for_no_longer_than_it_may(queue: MemoryQueue) -> None:
    await fill(queue, 9)
    for seconds, drain_s, took in ((1.5, 3.0, 1.5), (1.5, 0.5, 1.5), (60.0, 3.0, 1.12 + 3.0)):
        pool = Pool(queue, workers=1, drain_s=drain_s)
        takes(pool, seconds)
        began = now()
        asyncio.get_running_loop().call_later(1.12, pool.scheduler.drain)
        assert not await pool.run()
        assert now() - began == pytest.approx(took, abs=0.01)
        assert len(pool.asked) == 2


async def test_it_fails_as_soon_as_nobody_can_work(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    pool = Pool(queue, workers=1)

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.22)
        raise AuthError("no")

    pool.behave = behave  # type: ignore[method-assign]
    began = now()
    with pytest.raises(AuthError):
        await pool.run()
    assert now() - began == pytest.approx(0.22, abs=0.01)
    assert (await queue.counts()).ready == 1


async def test_at_the_end_slow_questions_are_looked_for_twenty_times_a_second(queue: MemoryQueue) -> None:
    await fill(queue, 40)
    pool = Pool(queue, workers=2, hedge=True)
    slow: list[float] = []
    hedged: list[float] = []
    pool.emit = lambda event: hedged.append(now()) if isinstance(event, Hedged) else None

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.1)
        if lease.id == "q39" and not slow:
            slow.append(now())
            await asyncio.sleep(5)
        return worker_id

    pool.behave = behave  # type: ignore[method-assign]
    pool.healthy = {"W1", "W2"}
    assert await pool.run()
    (began,), (duplicate,) = slow, hedged
    assert 0.1 <= duplicate - began <= 0.16, "a fifth of a second after it was asked, and no more than 0.05 s later"


async def test_leases_are_taken_by_the_half_batch(queue: MemoryQueue) -> None:
    await fill(queue, 20)
    calls = noted(queue, "lease")
    pool = Pool(queue, workers=1, concurrency=1, batch_size=8)
    takes(pool, 0.01)
    assert await pool.run()
    limits = [limit for _, (limit, *_) in calls]
    assert limits[0] == 8
    assert set(limits[1:3]) == {5}, "three are kept: fewer than half of a batch"
    pool = Pool(queue, workers=1, concurrency=1, batch_size=1)
    await fill(queue, 23)
    calls.clear()
    assert await pool.run()
    assert {limit for _, (limit, *_) in calls} == {1}


async def test_leases_are_extended_three_times_as_often_as_they_run_out_whatever_becomes_of_one() -> None:
    queue = MemoryQueue(lease_s=9.0, clock=now)
    await fill(queue, 3)
    calls = noted(queue, "extend")
    pool = Pool(queue, workers=1, concurrency=1, lease_s=9.0)
    takes(pool, 1.9)
    kept = queue.extend

    async def extend(lease: Lease) -> None:
        await kept(lease)
        if lease.id == "q1":
            raise LeaseLostError("another has it")

    queue.extend = extend  # type: ignore[method-assign]
    assert await pool.run()
    assert [(moment, lease.id) for moment, (lease,) in calls] == [(3.0, "q1"), (3.0, "q2")]
    takes(pool, 4.0)
    await fill(queue, 5)
    calls.clear()
    pool = Pool(queue, workers=1, concurrency=1, lease_s=9.0)
    takes(pool, 4.0)
    assert await pool.run()
    assert [lease.id for _, (lease,) in calls] == ["q3", "q4", "q4"]
    await queue.close()


async def test_a_lease_that_is_lost_keeps_no_other_from_going_back(queue: MemoryQueue) -> None:
    await fill(queue, 5)
    pool = Pool(queue, workers=1, concurrency=1, drain_s=0.0)
    kept = queue.release

    async def release(lease: Lease, *arguments: Any, **options: Any) -> None:
        await kept(lease, *arguments, **options)
        if lease.id in ("q1", "q3"):
            raise LeaseLostError("another has it")

    queue.release = release  # type: ignore[method-assign]
    takes(pool, 60.0)
    asyncio.get_running_loop().call_later(0.1, pool.scheduler.drain)
    assert not await pool.run()
    assert (await queue.counts()).ready == 5
    pool = Pool(queue, workers=1, concurrency=1)
    takes(pool, 60.0)
    running = asyncio.create_task(pool.run())
    await asyncio.sleep(0.1)
    await pool.scheduler.pause()
    assert (await queue.counts()).ready == 4
    running.cancel()
    await asyncio.wait({running})


async def away(pool: Pool, seconds: float) -> list[Any]:
    """The only worker refuses connections from the second question on, for so long; returns who was asked then."""
    refused: list[Any] = []

    async def behave(worker_id: str, lease: Lease) -> str:
        if len(pool.asked) > 1 and not pool.healthy:
            refused.append(lease)
            raise UnavailableError("http://w: cannot connect: connection refused")
        return "yes"

    pool.behave = behave  # type: ignore[method-assign]
    asyncio.get_running_loop().call_later(seconds, pool.healthy.add, "W1")
    return refused


async def test_a_run_waits_for_its_only_worker_and_goes_on(queue: MemoryQueue) -> None:
    await fill(queue, 300)
    pool = Pool(queue, workers=1, no_worker_timeout_s=600.0, probe_interval_s=1.0)
    refused = await away(pool, 50.0)
    began = now()
    async with asyncio.timeout(100):
        assert await pool.scheduler.run()
    assert 50 < now() - began < 60
    assert (await queue.counts()).done == 300
    assert len(refused) <= 2, "a worker that is away is probed, not asked"
    assert (await queue.stats())["re_executions"] == 0
    (event,) = pool.of(Waiting)
    assert "1 of 1 unreachable: cannot connect: connection refused" in event.text
    assert len(pool.of(WaitOver)) == 1


async def test_the_wait_is_reported_within_five_seconds(queue: MemoryQueue) -> None:
    await fill(queue, 3)
    pool = Pool(queue, workers=1, no_worker_timeout_s=0.0, probe_interval_s=1.0)
    await away(pool, 1e9)
    running = asyncio.create_task(pool.scheduler.run())
    await asyncio.sleep(5)
    assert pool.scheduler.waiting == pool.of(Waiting)[0].text
    assert "stops at" not in pool.scheduler.waiting
    await asyncio.sleep(2000)
    assert not running.done(), "0: no limit"
    pool.scheduler.drain()
    assert not await running


async def test_after_the_timeout_it_stops_with_all_questions_in_their_place(queue: MemoryQueue) -> None:
    await fill(queue, 50)
    pool = Pool(queue, workers=1, batch_size=8, no_worker_timeout_s=600.0, drain_s=0.0, probe_interval_s=1.0)
    await away(pool, 1e9)
    began = now()
    with pytest.raises(UnavailableError):
        await pool.scheduler.run()
    assert 600 <= now() - began <= 601
    assert (await queue.counts()).ready == 50
    assert pool.of(DeadLettered) == []
    assert "stops at" in pool.of(Waiting)[0].text


async def test_the_time_of_a_pause_is_no_wait_for_workers(queue: MemoryQueue) -> None:
    await fill(queue, 50)
    pool = Pool(queue, workers=1, no_worker_timeout_s=600.0, probe_interval_s=1.0)
    await away(pool, 3000.0)
    running = asyncio.create_task(pool.scheduler.run())
    await asyncio.sleep(10)
    await pool.scheduler.pause()
    await asyncio.sleep(2600)
    pool.scheduler.unpause()
    assert await running, "its worker came back 390 s later"
    assert (await queue.counts()).done == 50


async def test_a_run_whose_workers_ask_to_wait_says_until_when(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    pool = Pool(queue, workers=1)

    async def behave(worker_id: str, lease: Lease) -> str:
        if len(pool.asked) == 1:
            raise RateLimitedError("slow down", retry_after_s=60.0)
        return "yes"

    pool.behave = behave  # type: ignore[method-assign]
    async with asyncio.timeout(100):
        assert await pool.scheduler.run()
    (event,) = pool.of(Waiting)
    assert "1 of 1 ask to wait: slow down" in event.text
    assert "the next try is at" in event.text


async def test_a_question_waits_for_a_worker_that_it_did_not_fail_at(queue: MemoryQueue) -> None:
    await fill(queue, 2)
    pool = Pool(queue, workers=2, concurrency=1, gone_after_s=100.0)
    pool.healthy = {"W1", "W2"}

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1":
            raise ProtocolError("garbage")
        await asyncio.sleep(1)
        return worker_id

    pool.behave = behave  # type: ignore[method-assign]
    assert await pool.run()
    assert sorted(pool.asked) == [("W1", "q0"), ("W2", "q0"), ("W2", "q1")]


async def test_a_pool_that_keeps_failing_rests_no_longer_than_the_budget_of_retries_wants(queue: MemoryQueue) -> None:
    for per_s, pause_s in ((3.0, 0.25), (1.0, 0.5)):
        assert Pool(queue, retry_per_s=per_s).scheduler.pool._degraded_rate._pause_s == pause_s


async def test_the_default_is_to_let_a_leaving_worker_end_what_it_has(queue: MemoryQueue) -> None:
    await fill(queue, 2)
    pool = Pool(queue, workers=1)
    takes(pool, 1.0)
    running = asyncio.create_task(pool.run())
    await asyncio.sleep(0.5)
    pool.scheduler.add_worker("W2")
    await pool.scheduler.remove_worker("W1")
    assert await running
    assert {worker for worker, _ in pool.asked} == {"W1"}
