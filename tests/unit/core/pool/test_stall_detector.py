"""Workers that hold their questions and say nothing, in virtual time. The interval is one second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from unit.core.pool_in_virtual_time import PoolInVirtualTime
from unit.core.virtual_loop import virtually

from streaming_queue.errors import RemoteError
from streaming_queue.telemetry.events import WorkerDown


@asynccontextmanager
async def watched(*busy: str) -> AsyncIterator[PoolInVirtualTime]:
    bench = PoolInVirtualTime({"A": 2, "B": 2})
    for worker in busy:
        bench.asked(worker)
    watching = asyncio.create_task(bench.pool.watch())
    try:
        yield bench
    finally:
        watching.cancel()
        bench.pool.stop()


@virtually
async def test_a_silent_worker_is_probed_and_after_two_misses_lost() -> None:
    async with watched("A") as bench:

        async def hang(worker: str) -> bool:
            await asyncio.sleep(1000)
            return True

        bench.probing = hang
        await bench.at(2.79)
        assert bench.probes == [(0.8, "A"), (1.8, "A")]
        assert bench.is_up("A")
        await bench.at(2.81)
        (down,) = bench.told(WorkerDown)
        assert (down.worker, down.final) == ("A", False)
        assert "2 times in a row" in down.reason


@virtually
async def test_one_that_answers_its_probe_is_left_in_peace_for_another_interval() -> None:
    async with watched("A") as bench:
        bench.finds["A"] = [True]
        await bench.at(3)
        assert bench.probes == [(0.8, "A"), (1.6, "A"), (2.4, "A")]
        assert bench.told(WorkerDown) == []


@virtually
async def test_one_miss_is_none() -> None:
    async with watched("A") as bench:
        bench.finds["A"] = [False, True]
        await bench.at(1)
        assert bench.probes == [(0.8, "A"), (0.8, "A")]
        assert bench.is_up("A")


@virtually
async def test_only_a_worker_that_has_questions_is_looked_after() -> None:
    async with watched("A") as bench:
        bench.left("A")
        await bench.at(3)
        assert bench.probes == []
        bench.finds["B"] = [True]
        bench.asked("B")  # heard of at this moment
        await bench.at(3.7)
        assert bench.probes == []
        await bench.at(3.9)
        assert bench.probes == [(3.8, "B")]


@virtually
async def test_an_answer_to_a_question_is_a_sign_of_life_even_under_the_probe() -> None:
    async with watched("A") as bench:
        bench.finds["A"] = [True]

        async def answers_meanwhile(worker: str) -> bool:
            await asyncio.sleep(0.1)
            bench.pool.answered(worker, 1.0)
            return False

        bench.probing = answers_meanwhile
        await bench.at(1.6)
        assert bench.probes == [(0.8, "A")], "another probe is due three quarters of a second after the answer"
        assert bench.is_up("A")


@virtually
async def test_a_failed_question_is_a_sign_of_life_too() -> None:
    async with watched("A") as bench:
        bench.finds["A"] = [True]
        await bench.at(0.55)
        bench.fail("A", RemoteError("no"))
        await bench.at(1.35)
        assert bench.probes == [(1.3, "A")]


@virtually
async def test_one_that_went_down_meanwhile_is_lost_once() -> None:
    async with watched("A") as bench:

        async def goes_down(worker: str) -> bool:
            bench.pool.pause(worker, 100.0, "slow down")
            return False

        bench.probing = goes_down
        await bench.at(2)
        assert bench.probes == [(0.8, "A")]
        assert len(bench.told(WorkerDown)) == 1


@virtually
async def test_all_that_are_silent_are_probed_at_once_and_each_by_one_probe() -> None:
    async with watched("A", "B") as bench:

        async def slow(worker: str) -> bool:
            await asyncio.sleep(0.5)
            return True

        bench.probing = slow
        await bench.at(1.4)
        assert bench.probes == [(0.8, "A"), (0.8, "B")]


@virtually
async def test_one_that_left_is_probed_no_more() -> None:
    async with watched("A", "B") as bench:
        cancelled = []

        async def hang(worker: str) -> bool:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append((bench.now, worker))
                raise
            return True

        bench.probing = hang
        await bench.at(0.9)
        bench.pool.remove("A")
        await bench.at(1.0)
        assert cancelled == [(0.9, "A")]
        bench.pool.stop()
        await bench.at(1.1)
        assert cancelled == [(0.9, "A"), (1.0, "B")]


# --- this process stood still: a debugger, a laptop's lid, a machine that is too busy ---


@virtually
async def test_a_process_that_stood_still_hears_its_workers_before_it_probes_them() -> None:
    async with watched("A") as bench:

        def stand_still() -> None:
            bench.clock.now += 1
            loop.call_later(0.06, bench.pool.answered, "A", 1.0)  # it came meanwhile, and is read soon

        loop = asyncio.get_running_loop()
        loop.call_later(0.45, stand_still)
        bench.finds["A"] = [True]
        await bench.at(2.2)
        assert bench.probes == []
        await bench.at(2.4)
        assert [worker for _, worker in bench.probes] == ["A"], "it goes on"


@virtually
async def test_a_short_standstill_is_none() -> None:
    async with watched("A") as bench:
        bench.finds["A"] = [True]

        def stand_still() -> None:
            bench.clock.now += 0.5

        asyncio.get_running_loop().call_later(0.45, stand_still)
        await bench.at(1.0)
        assert bench.probes == [(0.95, "A")]


@virtually
async def test_a_miss_while_the_process_stood_still_is_none() -> None:
    async with watched("A") as bench:
        finds = [(0.0, False), (2.5, False), (0.0, True)]

        async def find(worker: str) -> bool:
            stands_still_s, healthy = finds.pop(0) if len(finds) > 1 else finds[0]
            bench.clock.now += stands_still_s
            return healthy

        bench.probing = find
        await bench.at(6)
        assert bench.told(WorkerDown) == []
        assert len(finds) == 1


@virtually
async def test_a_probe_that_is_a_little_late_is_a_miss() -> None:
    async with watched("A") as bench:

        async def late(worker: str) -> bool:
            bench.clock.now += 1.5
            return False

        bench.probing = late
        await bench.at(4)
        assert [event.worker for event in bench.told(WorkerDown)] == ["A"]
