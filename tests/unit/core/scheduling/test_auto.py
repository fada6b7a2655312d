from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from unit.core.scheduling.test_scheduler import Pool, fill

from streaming_queue.config import Auto
from streaming_queue.core.scheduling.auto import MOST_EMITTED, ProtocolChoice
from streaming_queue.core.scheduling.bandit import WINDOW
from streaming_queue.errors import (
    AgentFailedError,
    BadResponseError,
    ConnectError,
    RateLimitedError,
    RemoteError,
    SendTimeoutError,
)
from streaming_queue.messages import Result
from streaming_queue.queue.base import Lease
from streaming_queue.queue.memory import MemoryQueue
from streaming_queue.telemetry.events import Answered, Event, Notice

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

PROTOCOLS = {"W1": "ws", "W2": "http"}


@pytest.fixture
async def queue():
    queue = MemoryQueue()
    yield queue
    await queue.close()


def choosing(events: list[Event] | None = None, *, slow: bool = True, **settings: Any) -> ProtocolChoice:
    """A choice among ws and http, of which http was slow so far."""
    emit = [].append if events is None else events.append
    choice = ProtocolChoice(Auto(**settings), PROTOCOLS, protocol_of=PROTOCOLS.__getitem__, emit=emit)
    if slow:
        measure(choice, W1=1.0, W2=900.0)
    return choice


def measure(choice: ProtocolChoice, **costs: float) -> None:
    for worker_id, cost_ms in costs.items():
        result = Result("", worker_id, "", 0.0, protocol_ms=cost_ms, llm_ms=10.0)
        for _ in range(WINDOW):
            choice.answered(worker_id, result)


async def test_one_that_is_held_back_has_its_share_and_no_more(virtual_time: Any, queue: MemoryQueue) -> None:
    await fill(queue, 400)
    choice = choosing(exploration=0.1)
    pool = Pool(queue, workers=2, choice=choice)
    pool.healthy = set(PROTOCOLS)

    async def behave(worker_id: str, lease: Lease) -> str:
        await asyncio.sleep(0.06 if worker_id == "W2" else 0.002)
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert len(pool.of(Answered)) == 400
    asked = Counter(worker_id for worker_id, _ in pool.asked)
    assert 5 <= asked["W2"] <= 60
    report = choice.report()
    assert report["questions"] == 400
    assert report["protocols"]["http"]["taken"] == {"freely": 0, "explored": asked["W2"], "no other": 0}
    assert report["protocols"]["http"]["held_back"]["slow"] == asked["W1"]
    assert report["settings"]["exploration"] == 0.1


async def test_one_that_does_well_again_is_used_again(queue: MemoryQueue) -> None:
    await fill(queue, 400)
    choice = choosing(exploration=0.1)
    pool = Pool(queue, workers=2, choice=choice)
    assert await pool.run()
    taken = choice.report()["protocols"]["http"]["taken"]
    assert taken["explored"] >= WINDOW // 2
    assert taken["freely"] > 100


async def test_a_question_that_failed_where_all_may_go_goes_elsewhere_at_once(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    choice = choosing(exploration=0.001)
    pool = Pool(queue, workers=2, choice=choice)

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1":
            raise RemoteError("not here")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert [worker_id for worker_id, _ in pool.asked] == ["W1", "W2"]
    assert choice.report()["protocols"]["http"]["taken"]["no other"] == 1


async def test_a_question_that_failed_everywhere_is_tried_by_the_free_again(queue: MemoryQueue) -> None:
    await fill(queue, 1)
    pool = Pool(queue, workers=2, choice=choosing(exploration=0.001), max_attempts=4)

    async def behave(worker_id: str, lease: Lease) -> str:
        if lease.attempt < 3:
            raise RemoteError("not yet")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert [worker_id for worker_id, _ in pool.asked] == ["W1", "W2", "W1"]


async def test_where_the_good_one_is_lost_the_other_has_all(queue: MemoryQueue) -> None:
    await fill(queue, 40)
    choice = choosing(exploration=0.001)
    pool = Pool(queue, workers=2, choice=choice)

    async def behave(worker_id: str, lease: Lease) -> str:
        if worker_id == "W1":
            raise ConnectError("gone")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    assert {event.result.worker for event in pool.of(Answered)} == {"W2"}
    assert len(pool.of(Answered)) == 40


async def test_a_worker_that_joins_later_may_bring_a_protocol(queue: MemoryQueue) -> None:
    await fill(queue, 60)
    protocols = {**PROTOCOLS, "W3": "grpc"}
    choice = ProtocolChoice(Auto(), PROTOCOLS, protocol_of=protocols.__getitem__, emit=[].append)
    pool = Pool(queue, workers=2, choice=choice)

    async def behave(worker_id: str, lease: Lease) -> str:
        pool.scheduler.add_worker("W3")
        return "yes"

    pool.behave = behave
    assert await pool.run()
    report = choice.report()["protocols"]
    assert set(report) == {"ws", "http", "grpc"}
    assert report["grpc"]["taken"]["freely"] > 0


async def test_one_that_is_held_back_is_not_asked_what_is_slow_elsewhere() -> None:
    choice = choosing()
    assert choice.is_free("W1")
    assert not choice.is_free("W2")
    await asyncio.sleep(0)


async def test_only_a_failed_exchange_is_held_against_a_protocol() -> None:
    choice = choosing(slow=False)
    for error in (AgentFailedError("its own"), BadResponseError("the model's"), RateLimitedError("slower")):
        for _ in range(WINDOW):
            choice.failed("W2", error)
    assert choice.report()["protocols"]["http"]["outcomes"] == 0
    for error in (ConnectError("x"), SendTimeoutError("x"), RemoteError("x")):
        choice.failed("W2", error)
    assert (
        choice.report()["protocols"]["http"] | {"standing": "failing", "success_share": 0.0}
        == (choice.report()["protocols"]["http"])
    )
    await asyncio.sleep(0)


async def test_shifts_are_told_while_they_happen_but_not_without_end() -> None:
    events: list[Event] = []
    choice = choosing(events)
    (notice,) = events
    assert isinstance(notice, Notice)
    assert notice.text.startswith("auto: http is held back, slow: overhead 900.0 ms")
    for _ in range(MOST_EMITTED):
        measure(choice, W2=1.0)
        measure(choice, W2=900.0)
    assert len(events) == MOST_EMITTED
    assert "auto: http takes questions freely" in events[1].text
    assert choice.report()["shift_count"] == 2 * MOST_EMITTED + 1
    await asyncio.sleep(0)
