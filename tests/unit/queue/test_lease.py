"""Who may work on what, and for how long, for both engines."""

from __future__ import annotations

import asyncio
import time

import pytest
from unit.queue.writer import handed_over

from streaming_queue.errors import LeaseLostError
from streaming_queue.messages import Counts, Question
from streaming_queue.queue.base import STATS


async def fill(queue, count):
    await queue.put([Question(f"question {number}", f"q{number}") for number in range(count)])


async def test_a_lease_takes_the_oldest_and_counts_from_one(queue, clock):
    await fill(queue, 5)
    clock.advance(2)
    first, second = await queue.lease(2)
    assert (first.id, second.id) == ("q0", "q1")
    assert (first.attempt, first.fence) == (1, 1)
    assert first.waited_ms == pytest.approx(2000, abs=1)
    assert await queue.counts() == Counts(ready=3, leased=2)
    assert [lease.id for lease in await queue.lease(100)] == ["q2", "q3", "q4"]
    assert await queue.lease(1) == []
    assert await queue.lease(0) == []


async def test_more_than_one_page_is_leased_at_once(queue):
    await fill(queue, 300)
    assert [lease.id for lease in await queue.lease(200)] == [f"q{number}" for number in range(200)]
    assert len(await queue.lease(200)) == 100


async def test_a_retry_is_counted_and_delayed(queue, clock, failure):
    await fill(queue, 2)
    (lease, _) = await queue.lease(2)
    await queue.retry(lease, 5, failure())
    assert await queue.counts() == Counts(ready=1, leased=1)
    assert await queue.lease(1) == []
    clock.advance(4.9)
    assert await queue.lease(1) == []
    clock.advance(0.6)
    (again,) = await queue.lease(1)
    assert (again.id, again.attempt, again.fence) == ("q0", 2, 2)
    assert again.waited_ms == pytest.approx(500, abs=1)
    queue.sent(again)
    await queue.release(again)
    assert (await queue.stats())["re_executions"] == 1


async def test_a_question_given_back_is_the_oldest_again(queue, failure):
    await fill(queue, 4)
    leases = await queue.lease(3)
    await queue.retry(leases[1], 0, failure())
    await queue.release(leases[0])
    assert [lease.id for lease in await queue.lease(4)] == ["q0", "q1", "q3"]


def ahead(leases):
    """The stats of a queue where so many leases ended without a send."""
    return dict.fromkeys(STATS, 0) | {"leases_taken_ahead": leases}


async def test_a_question_that_is_sent_twice_under_one_lease_is_executed_again(queue, result):
    await fill(queue, 1)
    (lease,) = await queue.lease(1)
    queue.sent(lease)
    queue.sent(lease)
    await queue.commit(lease, result())
    assert await queue.stats() == ahead(0) | {"re_executions": 1}


async def test_a_release_is_not_counted(queue, clock, failure):
    await fill(queue, 1)
    (lease,) = await queue.lease(1)
    await queue.release(lease, 2.0)
    assert await queue.lease(1) == []
    clock.advance(2)
    (lease,) = await queue.lease(1)
    assert (lease.attempt, lease.fence) == (1, 2)
    assert await queue.stats() == ahead(1)
    for losses in (1, 2):
        queue.sent(lease)
        await queue.release(lease, failure=failure())
        (lease,) = await queue.lease(1)
        assert lease.losses == losses
    await queue.release(lease)
    assert (lease.attempt, lease.fence) == (1, 4)
    assert await queue.stats() == ahead(2) | {"re_executions": 1, "losses": 2}


@pytest.mark.parametrize("delay_s", [-1.0, float("nan")])
async def test_a_delay_that_is_none_is_no_delay(queue, failure, delay_s):
    await fill(queue, 1)
    await queue.retry((await queue.lease(1))[0], delay_s, failure())
    assert len(await queue.lease(1)) == 1


async def test_an_endless_delay_is_bearable(queue, failure, result):
    await fill(queue, 1)
    (lease,) = await queue.lease(1)
    await queue.retry(lease, float("inf"), failure())
    assert await queue.lease(1, 0.01) == []
    assert await queue.commit(lease, result())


async def settle(queue, verb, lease, failure):
    if verb == "retry":
        await queue.retry(lease, 0, failure())
    elif verb == "release":
        await queue.release(lease)
    elif verb == "bury":
        await queue.bury(lease, failure())
    else:
        await queue.extend(lease)


@pytest.mark.parametrize("verb", ["retry", "release", "bury", "extend"])
async def test_only_the_newest_lease_decides(queue, clock, failure, result, verb):
    await fill(queue, 1)
    (old,) = await queue.lease(1)
    clock.advance(61)
    (new,) = await queue.lease(1)
    assert new.fence > old.fence
    with pytest.raises(LeaseLostError, match="q0"):
        await settle(queue, verb, old, failure)
    await queue.extend(new)
    await queue.release(new)
    with pytest.raises(LeaseLostError):
        await settle(queue, verb, new, failure)
    (newest,) = await queue.lease(1)
    assert await queue.commit(newest, result())
    with pytest.raises(LeaseLostError):
        await settle(queue, verb, newest, failure)
    assert await queue.counts() == Counts(done=1)


@pytest.mark.parametrize("verb", ["retry", "release", "bury", "extend"])
async def test_an_expired_lease_holds_until_it_is_taken_over(queue, clock, failure, verb):
    await fill(queue, 1)
    (lease,) = await queue.lease(1)
    clock.advance(1000)
    await settle(queue, verb, lease, failure)
    assert (await queue.counts()).total == 1


async def test_an_expired_lease_goes_back_uncounted(queue, clock):
    await fill(queue, 3)
    sent, _ = await queue.lease(2)
    queue.sent(sent)
    clock.advance(59)
    assert [lease.id for lease in await queue.lease(3)] == ["q2"]
    clock.advance(2)
    first, second = await queue.lease(3)
    assert (first.id, first.attempt, first.fence) == ("q0", 1, 2)
    assert second.id == "q1"
    assert await queue.stats() == ahead(1)
    queue.sent(first)
    queue.sent(second)
    await queue.release(second)
    assert await queue.stats() == ahead(1) | {"re_executions": 1}
    assert [(entry.outcome, entry.fence) for entry in await queue.attempts("q0")] == [("lost", 1)]


async def test_an_extended_lease_lives_on(queue, clock):
    await fill(queue, 2)
    kept, lost = await queue.lease(2)
    clock.advance(40)
    await queue.extend(kept)
    clock.advance(40)
    assert [lease.id for lease in await queue.lease(2)] == [lost.id]
    clock.advance(21)
    assert [lease.id for lease in await queue.lease(2)] == [kept.id]


async def test_pause_hands_out_nothing_and_stops_nothing_else(queue, clock, result, failure):
    await fill(queue, 3)
    done, back = await queue.lease(2)
    queue.pause()
    queue.pause()
    assert await queue.lease(1) == []
    assert await queue.lease(1, 0.02) == []
    await fill(queue, 4)
    assert await queue.commit(done, result())
    await queue.retry(back, 0, failure())
    assert await queue.counts() == Counts(ready=3, done=1)
    queue.resume()
    assert len(await queue.lease(10)) == 3


async def within(task, timeout_s=5.0):
    return await asyncio.wait_for(task, timeout_s)


async def test_a_waiting_lease_is_woken_by_a_put(make_queue):
    queue = await make_queue()
    waiting = [asyncio.create_task(queue.lease(2, 30)) for _ in range(3)]
    await handed_over(queue)
    await fill(queue, 3)
    assert [len(await within(waiting[0])), len(await within(waiting[1]))] == [2, 1]
    await queue.put([Question("late", "late")])
    assert [lease.id for lease in await within(waiting[2])] == ["late"]


@pytest.mark.parametrize("verb", ["retry", "release"])
async def test_a_waiting_lease_is_woken_by_what_is_given_back(make_queue, failure, verb):
    queue = await make_queue()
    await fill(queue, 1)
    (lease,) = await queue.lease(1)
    waiting = asyncio.create_task(queue.lease(1, 30))
    await handed_over(queue)
    await settle(queue, verb, lease, failure)
    assert [lease.id for lease in await within(waiting)] == ["q0"]


async def test_a_waiting_lease_is_woken_by_a_replay(make_queue, failure):
    queue = await make_queue()
    await fill(queue, 1)
    await queue.bury((await queue.lease(1))[0], failure())
    waiting = asyncio.create_task(queue.lease(1, 30))
    await handed_over(queue)
    assert await queue.replay() == 1
    assert len(await within(waiting)) == 1


async def test_a_waiting_lease_is_woken_when_a_delay_ends(make_queue, failure):
    queue = await make_queue()
    await fill(queue, 1)
    await queue.retry((await queue.lease(1))[0], 0.05, failure())
    started = time.monotonic()
    assert len(await within(queue.lease(1, 30))) == 1
    assert 0.04 < time.monotonic() - started < 3


async def test_a_waiting_lease_is_woken_when_another_expires(make_queue):
    queue = await make_queue(lease_s=0.05)
    await fill(queue, 1)
    await queue.lease(1)
    (again,) = await within(queue.lease(1, 30))
    assert again.fence == 2


async def test_a_waiting_lease_is_woken_by_resume(make_queue):
    queue = await make_queue()
    queue.pause()
    await fill(queue, 1)
    waiting = asyncio.create_task(queue.lease(1, 30))
    await handed_over(queue)
    assert not waiting.done()
    queue.resume()
    assert len(await within(waiting)) == 1


async def test_a_wait_ends_in_time_with_nothing(make_queue):
    queue = await make_queue()
    started = time.monotonic()
    assert await queue.lease(1, 0.05) == []
    assert 0.04 < time.monotonic() - started < 3


async def test_a_cancelled_wait_takes_nothing_with_it(make_queue):
    queue = await make_queue()
    waiting = asyncio.create_task(queue.lease(1, 30))
    await handed_over(queue)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await fill(queue, 1)
    assert len(await queue.lease(1)) == 1


async def test_leases_without_a_receiver_go_back(make_queue):
    queue = await make_queue()
    for turn in range(30):
        await queue.put([Question("?", f"turn {turn}")])
        task = asyncio.create_task(queue.lease(5, 1))
        # Cancelled before, while and after the leases are made.
        for _ in range(turn % 10):
            await asyncio.sleep(0.0005)
        task.cancel()
        leases = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(leases, list):
            for lease in leases:
                await queue.release(lease)
        again = []
        while len(again) < turn + 1:
            again += await within(queue.lease(100, 5))
        for lease in again:
            await queue.release(lease)
    assert (await queue.stats())["re_executions"] == 0


async def test_a_lease_ends_exactly_at_its_time(queue, clock):
    await fill(queue, 1)
    (lease,) = await queue.lease(1)
    clock.now = lease_end = clock.now + 60.0
    (again,) = await queue.lease(1)
    assert (again.id, again.fence, clock.now) == (lease.id, 2, lease_end)


@pytest.mark.parametrize("how", ["pause", "cancel"])
async def test_a_lease_that_comes_too_late_for_its_caller_goes_back(queue, how):
    waiting = asyncio.create_task(queue.lease(1, 30))
    await handed_over(queue)
    await fill(queue, 1)
    if how == "pause":
        queue.pause()
    else:
        waiting.cancel()
    (leases,) = await asyncio.gather(waiting, return_exceptions=True)
    if isinstance(leases, list):
        for lease in leases:
            await queue.release(lease)
    queue.resume()
    (lease,) = await queue.lease(1, 5)
    assert lease.attempt == 1
    assert (await queue.stats())["re_executions"] == 0
