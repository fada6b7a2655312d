from __future__ import annotations

import asyncio

import pytest
from unit.core.virtual_loop import virtually

from streaming_queue.comm.context import heard, listener, progressed
from streaming_queue.core.idle_timeout import IdleTimeouts
from streaming_queue.errors import SendTimeoutError


def now() -> float:
    return asyncio.get_running_loop().time()


@virtually
async def test_an_honest_agent_that_streams_with_long_pauses_is_not_cut() -> None:
    with IdleTimeouts().bound(600, 120, lambda: "w"):
        for _ in range(20):
            progressed()
            await asyncio.sleep(100)


@virtually
async def test_an_honest_agent_that_shows_only_signs_of_life_is_not_cut() -> None:
    with IdleTimeouts().bound(600, 120, lambda: "w"):
        for _ in range(120):
            heard()
            await asyncio.sleep(15)


@virtually
async def test_after_the_first_piece_signs_of_life_are_not_enough() -> None:
    began = now()
    with pytest.raises(SendTimeoutError, match="w: no further piece"), IdleTimeouts().bound(600, 120, lambda: "w"):
        await asyncio.sleep(50)
        progressed()
        while True:
            heard()
            await asyncio.sleep(15)
    assert now() - began == pytest.approx(170, abs=1)


@virtually
async def test_silence_ends_earlier_than_idleness_if_it_is_shorter() -> None:
    with pytest.raises(SendTimeoutError, match="no sign of life"), IdleTimeouts().bound(5, 120, lambda: "w"):
        progressed()
        await asyncio.sleep(1000)


@virtually
async def test_many_messages_each_have_their_own_time() -> None:
    watch, ends = IdleTimeouts(), {}

    async def message(name: str, pieces: int) -> None:
        began = now()
        with pytest.raises(SendTimeoutError), watch.bound(600, 120, lambda: name):
            for _ in range(pieces):
                progressed()
                await asyncio.sleep(10)
            await asyncio.sleep(10_000)
        ends[name] = round(now() - began)

    await asyncio.gather(message("none", 0), message("one", 1), message("ten", 10))
    assert ends == {"none": 600, "one": 120, "ten": 210}


@virtually
async def test_without_limits_nothing_is_cut_and_no_timer_is_left() -> None:
    with IdleTimeouts().bound(0, None, lambda: "w"):
        progressed()
        await asyncio.sleep(1e6)


@virtually
async def test_a_plain_listener_hears_of_content_too() -> None:
    with IdleTimeouts().bound(10, 0, lambda: "w"):
        await asyncio.sleep(9)
        listener()()
        await asyncio.sleep(9)
        progressed()
        await asyncio.sleep(9)
