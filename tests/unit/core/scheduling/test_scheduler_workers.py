"""Which worker the scheduler gives what: who joins and leaves, who is asked twice, what it tells of its decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from unit.core.scheduling.test_scheduler import Pool, fill, queue

from streaming_queue.errors import ConnectError, ProtocolError, UnavailableError
from streaming_queue.queue.base import Lease
from streaming_queue.queue.memory import MemoryQueue
from streaming_queue.telemetry.events import Answered, Hedged, Retried, Sent

__all__ = ["queue"]
pytestmark = pytest.mark.usefixtures("virtual_time", "no_stray_tasks")


class Choice:
    """Holds back the workers in `held`; it is noted whom it was told of."""

    def __init__(self, *held: str) -> None:
        self.held = held
        self.reachable: list[list[str]] = []
        self.shunned: list[Collection[str]] = []
        self.ends: list[tuple[str, Any]] = []
        self.on_change: Any = None

    def is_free(self, worker_id: str) -> bool:
        return worker_id not in self.held

    def grant(self, worker_id: str, shunned: Collection[str] = ()) -> bool:
        self.shunned.append(shunned)
        return self.is_free(worker_id)

    def reached(self, worker_ids: Collection[str]) -> None:
        self.reachable.append(list(worker_ids))

    def answered(self, worker_id: str, result: Any) -> None:
        self.ends.append((worker_id, result.answer))

    def failed(self, worker_id: str, error: Any) -> None:
        self.ends.append((worker_id, type(error)))


def one_slow(pool: Pool, slow: asyncio.Event, released: asyncio.Event) -> None:
    """The last question is slow where it is asked first."""

    async def behave(worker_id: str, lease: Lease) -> str:
        if lease.id == "q29" and not slow.is_set():
            slow.set()
            await released.wait()
        return worker_id

    pool.behave = behave  # type: ignore[method-assign]


async def test_the_figures_tell_what_was_decided(queue: MemoryQueue) -> None:
    assert Pool(queue).scheduler.figures() == {}
    pool = Pool(queue, hedge=True, adaptive=True, concurrency=3, slots={"W2": 9})
    assert pool.scheduler.figures() == {"hedged": 0, "concurrency": {"W1": 3, "W2": 4, "W3": 3}}
    await fill(queue, 30)
    slow, released = asyncio.Event(), asyncio.Event()
    one_slow(pool, slow, released)
    assert await pool.run()
    assert pool.scheduler.figures()["hedged"] == len(pool.of(Hedged)) == 1


async def test_what_waits_in_a_pause_is_asked_twice_after_it(queue: MemoryQueue) -> None:
    await fill(queue, 30)
    pool = Pool(queue, workers=2, hedge=True)
    slow, released = asyncio.Event(), asyncio.Event()
    one_slow(pool, slow, released)
    running = asyncio.create_task(pool.run())
    await slow.wait()
    await pool.scheduler.pause()
    pool.scheduler.unpause()
    assert await running, "the other worker answers it"
    assert len(pool.of(Hedged)) == 1


async def test_a_worker_that_is_held_back_is_asked_nothing_twice(queue: MemoryQueue) -> None:
    await fill(queue, 30)
    choice = Choice("W2")
    pool = Pool(queue, workers=2, hedge=True, choice=choice)  # type: ignore[arg-type]
    slow, released = asyncio.Event(), asyncio.Event()
    one_slow(pool, slow, released)
    running = asyncio.create_task(pool.run())
    await slow.wait()
    await asyncio.sleep(0.15)  # three times as long as it takes to look for slow ones
    assert pool.of(Hedged) == []
    choice.held = ()
    assert await running
    assert [event.worker for event in pool.of(Hedged)] == ["W2"]


async def test_a_paused_worker_is_asked_nothing_twice(queue: MemoryQueue) -> None:
    await fill(queue, 30)
    pool = Pool(queue, workers=2, hedge=True)
    pool.healthy.update({"W1", "W2"})
    slow, released = asyncio.Event(), asyncio.Event()
    one_slow(pool, slow, released)
    running = asyncio.create_task(pool.run())
    await slow.wait()
    for worker_id in ("W1", "W2"):
        pool.scheduler.pool.pause(worker_id, 0.3, "slow down")
    await asyncio.sleep(0.25)
    assert pool.of(Hedged) == []
    released.set()
    assert await running


async def test_a_worker_that_has_the_question_does_not_get_it_twice(queue: MemoryQueue) -> None:
    await fill(queue, 30)
    pool = Pool(queue, workers=1, hedge=True)
    pool.healthy.update({"W1", "W2"})
    slow, released = asyncio.Event(), asyncio.Event()
    one_slow(pool, slow, released)
    running = asyncio.create_task(pool.run())
    await slow.wait()
    await asyncio.sleep(0.15)
    assert pool.of(Hedged) == []
    released.set()
    assert await running


async def test_a_worker_that_came_back_gets_as_many_duplicates_as_its_limit(queue: MemoryQueue) -> None:
    await fill(queue, 30)
    choice = Choice("W2")
    pool = Pool(queue, workers=2, hedge=True, choice=choice)  # type: ignore[arg-type]
    pool.healthy.update({"W1", "W2"})
    slow: set[str] = set()
    both, released = asyncio.Event(), asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        if lease.id in ("q28", "q29"):
            slow.add(lease.id)
            if len(slow) == 2:
                both.set()
            await released.wait()
        return worker_id

    pool.behave = behave  # type: ignore[method-assign]
    running = asyncio.create_task(pool.run())
    await both.wait()
    pool.scheduler.pool.pause("W2", 0.05, "slow down")
    await asyncio.sleep(0.1)
    assert pool.scheduler.pool.states()["W2"]["limit"] == 1
    choice.held = ()
    await asyncio.sleep(0.15)
    assert [event.worker for event in pool.of(Hedged)] == ["W2"]
    released.set()
    assert await running


async def test_a_retry_of_a_question_that_was_asked_twice_is_no_duplicate(queue: MemoryQueue) -> None:
    await fill(queue, 30)
    pool = Pool(queue, workers=2, hedge=True)
    pool.healthy.update({"W1", "W2"})
    duplicated = asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        times = sum(question_id == "q29" for _, question_id in pool.asked)
        if lease.id != "q29" or times > 2:
            return worker_id
        if times == 2:
            duplicated.set()
        await duplicated.wait()
        raise ProtocolError("garbage")

    pool.behave = behave  # type: ignore[method-assign]
    assert await pool.run()
    ends = [type(event) for event in pool.events if getattr(event, "question_id", None) == "q29"]
    assert ends == [Sent, Hedged, Retried, Sent, Answered]


async def test_a_question_is_asked_twice_of_nobody_whom_it_failed_at(queue: MemoryQueue) -> None:
    await fill(queue, 30)
    pool = Pool(queue, workers=2, hedge=True)
    failed, slow, released = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        if lease.id == "q29" and not failed.is_set():
            failed.set()
            raise ProtocolError("garbage")
        if lease.id == "q29":
            slow.set()
            await released.wait()
        return worker_id

    pool.behave = behave  # type: ignore[method-assign]
    running = asyncio.create_task(pool.run())
    await slow.wait()
    await asyncio.sleep(0.15)
    assert pool.of(Hedged) == []
    released.set()
    assert await running


async def test_the_choice_of_protocols_knows_whom_it_can_reach_and_whom_a_question_shuns(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    choice = Choice()
    pool = Pool(queue, workers=3, choice=choice)  # type: ignore[arg-type]

    async def behave(worker_id: str, lease: Lease) -> str:
        if len(pool.asked) == 1:
            raise ProtocolError("garbage")
        if len(pool.asked) == 2:
            raise ConnectError("reset")
        return worker_id

    pool.behave = behave  # type: ignore[method-assign]
    assert await pool.run()
    (first, _), (second, _), (third, _) = pool.asked
    assert len({first, second, third}) == 3
    assert choice.reachable[-1] == [worker for worker in ("W1", "W2", "W3") if worker != second]
    assert not choice.shunned[0]
    assert set(choice.shunned[-1]) == {first}
    assert choice.ends == [(first, ProtocolError), (second, ConnectError), (third, third)]


async def test_a_worker_that_is_held_back_is_asked_when_the_choice_says_so(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    choice = Choice("W1")
    pool = Pool(queue, workers=1, choice=choice)  # type: ignore[arg-type]

    def free() -> None:
        choice.held = ()
        choice.on_change()

    loop = asyncio.get_running_loop()
    began = loop.time()
    loop.call_later(0.11, free)
    assert await pool.run()
    assert loop.time() - began < 0.12


async def test_a_worker_that_joins_has_slots_of_its_own(queue: MemoryQueue) -> None:
    await fill(queue, 60)
    pool = Pool(queue, workers=1, slots={"W9": 5})

    async def behave(worker_id: str, lease: Lease) -> str:
        if len(pool.asked) == 10:
            pool.scheduler.add_worker("W9")
            assert pool.scheduler.pool.states()["W9"]["limit"] == 5
        await asyncio.sleep(0.002)
        return "yes"

    pool.behave = behave  # type: ignore[method-assign]
    assert await pool.run()
    assert pool.most == {"W1": 2, "W9": 5}


async def test_a_worker_that_leaves_ends_its_questions_first_and_has_no_slots_afterwards(queue: MemoryQueue) -> None:
    await fill(queue, 4)
    pool = Pool(queue, workers=2)
    asked, released = asyncio.Event(), asyncio.Event()

    async def behave(worker_id: str, lease: Lease) -> str:
        if len(pool.asked) == 4:
            asked.set()
        await released.wait()
        return worker_id

    pool.behave = behave  # type: ignore[method-assign]
    running = asyncio.create_task(pool.run())
    await asked.wait()
    leaving = asyncio.create_task(pool.scheduler.remove_worker("W1"))
    await pool.scheduler.remove_worker("W8")  # is not there
    await asyncio.sleep(0.01)
    assert not leaving.done()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert {"slot:W1:0", "slot:W1:1", "slot:W2:0", "slot:W2:1"} <= names
    pool.intake_done.clear()
    released.set()
    await leaving
    await asyncio.sleep(0)
    assert {task.get_name() for task in asyncio.all_tasks() if "slot" in task.get_name()} == {"slot:W2:0", "slot:W2:1"}
    pool.intake_done.set()
    assert await running
    assert sorted(event.result.worker for event in pool.of(Answered)) == ["W1", "W1", "W2", "W2"]


@pytest.mark.parametrize(("workers", "named", "more"), [(3, 3, False), (4, 3, True), (5, 3, True)])
async def test_why_the_workers_are_down_is_told_of_three(
    queue: MemoryQueue, workers: int, named: int, more: bool
) -> None:
    await fill(queue, 1)
    pool = Pool(queue, workers=workers, no_worker_timeout_s=0.001)

    async def behave(worker_id: str, lease: Lease) -> str:
        for number in range(workers):
            reason = ConnectError(f"reason {number}")
            pool.scheduler.pool.lost(f"W{number + 1}", reason)
        raise ConnectError("refused")

    pool.behave = behave  # type: ignore[method-assign]
    with pytest.raises(UnavailableError) as caught:
        await pool.run()
    why = str(caught.value)
    assert [f"reason {number}" in why for number in range(workers)] == [number < named for number in range(workers)]
    assert (f"{workers - 3} more" in why) == more
