"""Large answers leave room for fewer questions."""

from __future__ import annotations

import asyncio

import pytest
from unit.core.scheduling.test_scheduler import Pool, fill, queue

from streaming_queue.core.scheduling import answer_budget
from streaming_queue.core.scheduling.answer_budget import BUDGET_BYTES, LEAST_BYTES, AnswerBudget
from streaming_queue.queue.base import Lease
from streaming_queue.queue.memory import MemoryQueue

__all__ = ["queue"]


def most(budget: AnswerBudget) -> int:
    """The number of questions that fit in flight."""
    count = 0
    while budget.has_room(count):
        count += 1
    return count


def test_the_room_follows_the_size_of_the_answers() -> None:
    budget = AnswerBudget()
    assert most(budget) == 384
    budget.answered(10)
    assert most(budget) == BUDGET_BYTES // LEAST_BYTES
    for _ in range(3):
        assert not budget.answered(15_000_000)
        assert most(budget) == BUDGET_BYTES // 15_000_000
    assert budget.answered(10), "somebody was refused, and has room now"
    for _ in range(100):
        budget.answered(10)
    assert most(budget) == BUDGET_BYTES // LEAST_BYTES


def test_one_question_always_fits() -> None:
    budget = AnswerBudget()
    budget.answered(10 * BUDGET_BYTES)
    assert most(budget) == 1


@pytest.mark.usefixtures("virtual_time", "no_stray_tasks")
async def test_after_the_first_large_answers_no_more_are_in_flight_than_fit(
    queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_budget, "BUDGET_BYTES", 1_000_000)
    monkeypatch.setattr(answer_budget, "FIRST_BYTES", 50_000)
    large, small = "x" * 200_000, "x"
    in_flight: list[int] = []
    pool = Pool(queue, workers=3, concurrency=10)

    async def behave(worker_id: str, lease: Lease) -> str:
        in_flight.append(sum(pool.in_flight.values()))
        await asyncio.sleep(1)
        return large if len(pool.asked) <= 100 else small

    pool.behave = behave  # type: ignore[method-assign]
    pool.healthy = {"W1", "W2", "W3"}
    await fill(queue, 300)
    assert await asyncio.wait_for(pool.scheduler.run(), 1000)
    assert (await queue.counts()).done == 300
    assert max(in_flight[:20]) == 20, "before the first answer"
    assert max(in_flight[40:100]) == 5
    assert max(in_flight[200:]) >= 15, "the answers are small again"
