from __future__ import annotations

import asyncio

import pytest

from streaming_queue.core.dispenser import Dispenser

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
def closed() -> set[str]:
    return set()


@pytest.fixture
def dispenser(closed: set[str]) -> Dispenser[str, int]:
    """Anybody may take any number, but for those who are closed; an even number only who is called even."""
    return Dispenser(lambda taker, item: taker not in closed and (item % 2 == 1 or taker == "even"))


async def waiting(dispenser: Dispenser[str, int], *takers: str) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(dispenser.take(taker)) for taker in takers]
    await asyncio.sleep(0)
    return tasks


async def test_the_oldest_item_goes_to_whoever_comes_first(dispenser: Dispenser[str, int]) -> None:
    for item in (2, 1, 3):
        dispenser.offer(item)
    assert [await dispenser.take("a"), await dispenser.take("even"), await dispenser.take("a")] == [1, 2, 3]
    assert len(dispenser) == 0


async def test_an_item_goes_to_whoever_waits_longest_and_may_have_it(dispenser: Dispenser[str, int]) -> None:
    first, second, even = await waiting(dispenser, "a", "b", "even")
    assert dispenser.waiting == 3
    for item in (2, 1, 3):
        dispenser.offer(item)
    assert [await first, await second, await even] == [1, 3, 2]
    assert dispenser.waiting == 0


async def test_a_cancelled_wait_loses_nothing_and_leaves_nothing(dispenser: Dispenser[str, int]) -> None:
    early, late, other = await waiting(dispenser, "a", "b", "c")
    early.cancel()
    await asyncio.wait({early})
    assert dispenser.waiting == 2
    dispenser.offer(1)
    late.cancel()  # it has been given the item, and has not had the time to take it
    await asyncio.wait({late})
    assert late.cancelled()
    assert await other == 1
    assert dispenser.waiting == len(dispenser) == 0


async def test_what_is_kept_is_tried_again_when_who_may_take_has_changed(
    dispenser: Dispenser[str, int], closed: set[str]
) -> None:
    closed.add("a")
    (task,) = await waiting(dispenser, "a")
    dispenser.offer(1)
    assert len(dispenser) == 1
    closed.clear()
    dispenser.rematch()
    assert await task == 1


async def test_those_who_wait_for_nothing_are_turned_away(dispenser: Dispenser[str, int]) -> None:
    hopeless, hopeful = await waiting(dispenser, "a", "b")
    dispenser.turn_away(lambda taker: LookupError(taker) if taker == "a" else None)
    with pytest.raises(LookupError, match="a"):
        await hopeless
    dispenser.offer(1)
    assert await hopeful == 1


async def test_dropped_items_are_nobodys(dispenser: Dispenser[str, int]) -> None:
    dispenser.offer(1)
    dispenser.offer(2)
    assert list(dispenser) == dispenser.drop() == [1, 2]
    assert list(dispenser) == []


@pytest.mark.parametrize("empty", ["drop", "rematch"])
async def test_who_fills_it_is_woken_when_it_is_emptied(empty: str) -> None:
    open_now = False
    dispenser = Dispenser[str, int](lambda _taker, _item: open_now)
    taking = asyncio.create_task(dispenser.take("a"))
    dispenser.offer(1)
    filling = asyncio.create_task(dispenser.hungry(1))
    await asyncio.sleep(0.01)
    assert not filling.done()
    open_now = True
    getattr(dispenser, empty)()
    async with asyncio.timeout(1):
        await filling
    taking.cancel()


async def test_what_was_given_counts_until_its_taker_goes_on() -> None:
    dispenser = Dispenser[str, int](lambda taker, _item: dispenser.given(taker) < 1)
    takers = await waiting(dispenser, "a", "a")
    dispenser.offer(1)
    dispenser.offer(2)
    assert dispenser.given("a") == 1
    assert len(dispenser) == 1
    await asyncio.sleep(0)
    assert dispenser.given("a") == 0
    dispenser.rematch()
    assert [await taker for taker in takers] == [1, 2]
    (cancelled,) = await waiting(dispenser, "b")
    dispenser.offer(3)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    assert dispenser.given("b") == 0
    assert dispenser.drop() == [3]
