"""What the interleavings found, one by one: rounds that ended late, badly or never."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest
from unit.core.scheduling.test_scheduler import Pool, fill, queue

from streaming_queue.comm.probing import StartingError
from streaming_queue.errors import ConnectError, RemoteError, UnavailableError
from streaming_queue.messages import Failure
from streaming_queue.telemetry.events import WorkerLeft

__all__ = ["queue"]
pytestmark = pytest.mark.usefixtures("virtual_time", "no_stray_tasks")


async def test_the_last_worker_goes_while_the_only_question_waits_for_its_retry(queue) -> None:
    await fill(queue, 1)
    pool = Pool(queue, workers=1, retry_base_s=0.001, no_worker_timeout_s=0.05)

    async def behave(worker_id, lease):
        # The scheduler waits for a lease when this is said, and has given up waiting when the question is ready again.
        pool.scheduler.pool.lost(worker_id, ConnectError("gone"))
        raise RemoteError("500", retryable=True)

    async def retry(lease, delay_s, failure):
        await kept(lease, 1.5, failure)

    kept, queue.retry = queue.retry, retry
    pool.behave = behave
    with pytest.raises(UnavailableError):
        await pool.run()
    assert (await queue.counts()).ready == 1


async def held(queue, workers=2):
    """A round whose questions are under way until it is drained, and the task that runs it."""
    await fill(queue, 4)
    pool = Pool(queue, workers=workers, drain_s=0.05)
    asked = asyncio.Event()

    async def behave(worker_id, lease):
        asked.set()
        await asyncio.sleep(60)
        return "too late"

    pool.behave = behave
    running = asyncio.create_task(pool.run())
    await asked.wait()
    return pool, running


async def test_a_removal_that_waits_ends_with_the_round(queue) -> None:
    pool, running = await held(queue)
    removal = asyncio.create_task(pool.scheduler.remove_worker("W1"))
    await asyncio.sleep(0)
    pool.scheduler.drain()
    assert not await running
    await asyncio.wait_for(removal, 5)


async def test_two_removals_and_a_join_leave_who_joined(queue) -> None:
    pool, running = await held(queue)
    tell = pool.emit

    def join_again(event):
        tell(event)
        if isinstance(event, WorkerLeft):
            pool.scheduler.add_worker("W1")

    pool.emit = join_again
    removals = [pool.scheduler.remove_worker("W1", at_once=True) for _ in range(2)]
    await asyncio.wait_for(asyncio.gather(*removals), 5)
    assert "W1" in pool.scheduler.pool.workers
    assert len(pool.of(WorkerLeft)) == 1
    pool.scheduler.drain()
    assert not await running


async def test_who_joins_when_the_round_is_over_is_left_alone(queue) -> None:
    pool = Pool(queue)
    assert await pool.run()
    pool.scheduler.add_worker("W9")
    assert "W9" not in pool.scheduler.pool.workers


async def test_an_old_lease_does_not_keep_a_newer_one_from_going_back(queue) -> None:
    await fill(queue, 1)
    (lease,) = await queue.lease(1)
    await queue.release(lease, failure=Failure("ConnectError", "gone"))
    (newer,) = await queue.lease(1)
    pool = Pool(queue)
    pool.scheduler._handoff.offer(newer)
    pool.scheduler._handoff.offer(lease)
    await pool.scheduler._give_back()
    assert (await queue.counts()).ready == 1


async def test_a_failure_gives_its_lease_back_where_the_other_worker_has_an_older_one(queue) -> None:
    await fill(queue, 1)
    pool = Pool(queue, workers=3, concurrency=1, hedge=True)
    asked: list[str] = []
    first = asyncio.Event()

    async def behave(worker_id, lease):
        asked.append(worker_id)
        if len(asked) == 1:
            first.set()
            await asyncio.sleep(60)
        if len(asked) == 2:
            raise RemoteError("500", retryable=True)
        return "at last"

    pool.behave = behave
    running = asyncio.create_task(pool.run())
    await first.wait()
    (attempt,) = pool.scheduler._attempts.in_flight
    await queue.release(attempt.lease)  # as when it had run out
    assert await running
    assert len(asked) == 3
    assert [outcome.result.answer for outcome in await queue.results()] == ["at last"]


async def test_a_worker_that_starts_is_waited_for_however_long_no_other_is_there(queue) -> None:
    await fill(queue, 4)
    pool = Pool(queue, workers=1, no_worker_timeout_s=0.2)
    seen: list[dict[str, Any]] = []

    async def behave(worker_id, lease):
        if not seen:
            raise ConnectError("connection refused")
        return "yes"

    async def probe(worker_id):
        seen.append(pool.scheduler.pool.states()[worker_id])
        if len(seen) < 50:  # half a second
            raise StartingError("waiting for it")
        return True

    pool.behave, pool.probe = behave, probe
    assert await pool.run()
    assert (await queue.counts()).done == 4
    assert {(state["state"], state["reason"]) for state in seen} == {("down", "connection refused")}
    assert len({state["since"] for state in seen}) == 1
    assert datetime.fromisoformat(seen[0]["since"]).tzinfo is not None
    after = pool.scheduler.pool.states()["W1"]
    assert (after["state"], after["reason"], after["since"]) == ("up", None, None)
