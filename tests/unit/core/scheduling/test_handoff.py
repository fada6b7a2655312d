from __future__ import annotations

import asyncio

import pytest

from streaming_queue.core.scheduling.handoff import Handoff

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
def closed() -> set[str]:
    return set()


@pytest.fixture
def handoff(closed: set[str]) -> Handoff[str, int]:
    """Anybody may take any number, but for those who are closed; an even number only who is called even."""
    return Handoff(lambda taker, item: taker not in closed and (item % 2 == 1 or taker == "even"))


async def waiting(handoff: Handoff[str, int], *takers: str) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(handoff.take(taker)) for taker in takers]
    await asyncio.sleep(0)
    return tasks


async def test_the_oldest_item_goes_to_whoever_comes_first(handoff: Handoff[str, int]) -> None:
    for item in (2, 1, 3):
        handoff.offer(item)
    assert [await handoff.take("a"), await handoff.take("even"), await handoff.take("a")] == [1, 2, 3]
    assert len(handoff) == 0


async def test_an_item_goes_to_whoever_waits_longest_and_may_have_it(handoff: Handoff[str, int]) -> None:
    first, second, even = await waiting(handoff, "a", "b", "even")
    assert handoff.waiting == 3
    for item in (2, 1, 3):
        handoff.offer(item)
    assert [await first, await second, await even] == [1, 3, 2]
    assert handoff.waiting == 0


async def test_a_cancelled_wait_loses_nothing_and_leaves_nothing(handoff: Handoff[str, int]) -> None:
    early, late, other = await waiting(handoff, "a", "b", "c")
    early.cancel()
    await asyncio.wait({early})
    assert handoff.waiting == 2
    handoff.offer(1)
    late.cancel()  # it has been given the item, and has not had the time to take it
    await asyncio.wait({late})
    assert late.cancelled()
    assert await other == 1
    assert handoff.waiting == len(handoff) == 0


async def test_what_is_kept_is_tried_again_when_who_may_take_has_changed(
    handoff: Handoff[str, int], closed: set[str]
) -> None:
    closed.add("a")
    (task,) = await waiting(handoff, "a")
    handoff.offer(1)
    assert len(handoff) == 1
    closed.clear()
    handoff.rematch()
    assert await task == 1


async def test_those_who_wait_for_nothing_are_turned_away(handoff: Handoff[str, int]) -> None:
    hopeless, hopeful = await waiting(handoff, "a", "b")
    handoff.turn_away(lambda taker: LookupError(taker) if taker == "a" else None)
    with pytest.raises(LookupError, match="a"):
        await hopeless
    handoff.offer(1)
    assert await hopeful == 1


async def test_dropped_items_are_nobodys(handoff: Handoff[str, int]) -> None:
    handoff.offer(1)
    handoff.offer(2)
    assert list(handoff) == handoff.drop() == [1, 2]
    assert list(handoff) == []


@pytest.mark.parametrize("empty", ["drop", "rematch"])
async def test_who_fills_it_is_woken_when_it_is_emptied(empty: str) -> None:
    open_now = False
    handoff = Handoff[str, int](lambda _taker, _item: open_now)
    taking = asyncio.create_task(handoff.take("a"))
    handoff.offer(1)
    filling = asyncio.create_task(handoff.hungry(1))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not filling.done()
    open_now = True
    getattr(handoff, empty)()
    async with asyncio.timeout(1):
        await filling
    taking.cancel()


async def test_what_was_given_counts_until_its_taker_goes_on() -> None:
    handoff = Handoff[str, int](lambda taker, _item: handoff.given(taker) < 1)
    takers = await waiting(handoff, "a", "a")
    handoff.offer(1)
    handoff.offer(2)
    assert handoff.given("a") == 1
    assert (handoff.on_the_way(1), handoff.on_the_way(2)) == (1, 0)
    assert len(handoff) == 1
    await asyncio.sleep(0)
    assert handoff.given("a") == handoff.on_the_way(1) == 0
    handoff.rematch()
    assert [await taker for taker in takers] == [1, 2]
    (cancelled,) = await waiting(handoff, "b")
    handoff.offer(3)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    assert handoff.given("b") == 0
    assert handoff.drop() == [3]
