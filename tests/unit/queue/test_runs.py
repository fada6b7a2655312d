"""What a queue of many runs promises beyond the model: shares, waits, bounds, and the end of a process."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from streaming_queue.errors import ConfigError, LeaseLostError, QueueError, QueueInUseError
from streaming_queue.messages import Counts, Failure, Question, Result
from streaming_queue.queue import runs as runs_module
from streaming_queue.queue.run_directories import DirectoryRunStore
from streaming_queue.queue.run_store import MemoryRunStore
from streaming_queue.queue.runs import QueueOfRuns

ANSWER = Result("yes", "w", "test", 0.1)
CAUSE = Failure("OneError", "why")


def some(count: int) -> list[Question]:
    return [Question(f"{number}?", f"q{number}") for number in range(count)]


@pytest_asyncio.fixture(params=["memory", "directory"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[QueueOfRuns]:
    store = (
        MemoryRunStore() if request.param == "memory" else await DirectoryRunStore.open_directory(tmp_path / "queue")
    )
    queue = await QueueOfRuns.open(store)
    yield queue
    await queue.close()


async def test_leases_are_shared_by_weight(queue: QueueOfRuns) -> None:
    for name, weight in (("light", 1.0), ("heavy", 3.0)):
        await queue.create(name, weight=weight)
        await queue.put(name, some(100))
    first = Counter([lease.run for _ in range(20) for lease in await queue.lease(4)])
    assert first == {"light": 20, "heavy": 60}


async def test_a_lease_waits_for_a_question_of_any_run(queue: QueueOfRuns) -> None:
    await queue.create("a")
    waiting = asyncio.create_task(queue.lease(5, 30.0))
    await asyncio.sleep(0)
    await queue.put("a", some(1))
    (lease,) = await asyncio.wait_for(waiting, 10)
    assert (lease.run, lease.key) == ("a", "a/q0")
    assert await queue.lease(5, 0.05) == []
    waiting = asyncio.create_task(queue.lease(5, 30.0))
    await queue.retry(lease, 0.1, CAUSE)
    assert [again.attempt for again in await asyncio.wait_for(waiting, 10)] == [2]


async def test_a_pause_gives_no_leases(queue: QueueOfRuns) -> None:
    await queue.create("a")
    await queue.put("a", some(1))
    queue.pause()
    assert await queue.lease(1, 0.05) == []
    queue.resume()
    assert len(await queue.lease(1)) == 1


async def test_no_more_runs_are_active_than_may_be_and_the_next_follows(
    queue: QueueOfRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "MOST_ACTIVE", 2)
    for name in ("a", "b", "c"):
        await queue.create(name)
        await queue.put(name, some(2))
    leases = await queue.lease(10)
    assert {lease.run for lease in leases} == {"a", "b"}
    for lease in leases:
        await queue.commit(lease, ANSWER)
    assert {lease.run for lease in await queue.lease(10)} == {"c"}


async def test_a_change_is_told_for_each_row_and_state(queue: QueueOfRuns) -> None:
    await queue.create("a")
    await queue.create("b")
    other = queue.next_change("b")
    await queue.put("a", some(3))
    first, second, third = await queue.lease(3)
    for call in (
        queue.commit(first, ANSWER),
        queue.bury(second, Failure("OneError", "why")),
        queue.seal("a"),
        queue.cancel("a"),
        queue.release(third),
    ):
        change = queue.next_change("a")
        assert not change.is_set()
        await call
        assert change.is_set()
    assert not other.is_set()
    assert [(o.result or o.failure) is not None for o in await queue.rows("a")] == [True] * 3


async def test_a_run_that_is_removed_loses_its_leases_and_disturbs_no_other(queue: QueueOfRuns) -> None:
    for name in ("gone", "stays"):
        await queue.create(name)
        await queue.put(name, some(6))
    leases = {name: [lease for lease in await queue.lease(12) if lease.run == name] for name in ("gone",)}["gone"]
    await queue.remove("gone")
    first, second, third, *_ = leases
    assert not await queue.commit(first, ANSWER)
    queue.sent(second)
    for call in (queue.retry(second, 0.0, CAUSE), queue.release(second), queue.bury(third, CAUSE), queue.extend(third)):
        with pytest.raises(LeaseLostError):
            await call
    assert [facts.name for facts in await queue.runs()] == ["stays"]
    assert (await queue.run("stays")).counts == Counts(leased=6)


async def test_a_removal_may_meet_every_other_call(queue: QueueOfRuns) -> None:
    """Runs come and go while workers lease, commit and give back: no call fails but with the documented errors."""
    over = False

    async def work() -> None:
        while not over:
            for number, lease in enumerate(await queue.lease(4, 0.01)):
                with contextlib.suppress(LeaseLostError):
                    await (queue.commit(lease, ANSWER) if number % 2 else queue.release(lease))
            await asyncio.sleep(0)  # memory never waits

    workers = [asyncio.create_task(work()) for _ in range(3)]
    for _ in range(15):
        await queue.create("a")
        await queue.put("a", some(8))
        await asyncio.sleep(0)
        await queue.remove("a")
    over = True
    await asyncio.gather(*workers)
    assert await queue.runs() == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 101, "new\nline", "ü"])
async def test_a_name_that_is_no_file_name_is_refused(queue: QueueOfRuns, name: str) -> None:
    with pytest.raises(ConfigError):
        await queue.create(name)
    assert await queue.runs() == []


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e9, float("nan"), float("inf")])
async def test_a_weight_out_of_bounds_is_refused(queue: QueueOfRuns, weight: float) -> None:
    with pytest.raises(ConfigError):
        await queue.create("a", weight=weight)


async def test_few_databases_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "MOST_OPEN", 3)
    queue = await QueueOfRuns.open(await DirectoryRunStore.open_directory(tmp_path))
    for number in range(12):
        await queue.create(f"r{number}")
        await queue.put(f"r{number}", some(2))
        assert len(queue._open) <= 3
    done = 0
    while leases := await queue.lease(2):
        for lease in leases:
            done += await queue.commit(lease, ANSWER)
    assert done == 24
    assert (await queue.counts()).done == 24
    await queue.close()


async def test_a_process_that_dies_leaves_its_runs_to_the_next(tmp_path: Path) -> None:
    queue = await QueueOfRuns.open(await DirectoryRunStore.open_directory(tmp_path))
    await queue.create("a", weight=2.0, settings={"key": "value"})
    await queue.put("a", some(3))
    await queue.commit((await queue.lease(1))[0], ANSWER)
    await queue.lease(1)
    with pytest.raises(QueueInUseError):
        await DirectoryRunStore.open_directory(tmp_path)
    store = queue._store
    assert isinstance(store, DirectoryRunStore)
    assert [facts.counts for facts in await store.all()] == [None], "a dead process leaves no counts"
    await queue._open["a"].close()  # as the system does with a process that is killed
    await store.close()
    again = await QueueOfRuns.open(await DirectoryRunStore.open_directory(tmp_path))
    facts = await again.run("a")
    assert (facts.weight, facts.settings, facts.counts and (facts.counts.ready, facts.counts.done)) == (
        2.0,
        {"key": "value"},
        (2, 1),
    )
    assert len(await again.lease(5)) == 2
    await again.close()


async def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:

    def foreign() -> None:
        with sqlite3.connect(tmp_path / "runs.db") as database:
            database.execute("PRAGMA application_id=7")
        database.close()

    await asyncio.to_thread(foreign)
    with pytest.raises(QueueError):
        await DirectoryRunStore.open_directory(tmp_path)
