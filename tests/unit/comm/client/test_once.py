"""One value for all callers that need it at the same time."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from streaming_queue.comm.client.once import Once
from streaming_queue.errors import BackendClosedError, ConnectError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


class Maker:
    """`made` counts the values; each waits for `go`, and fails while `error` is set."""

    def __init__(self) -> None:
        self.made = 0
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def make(self) -> int:
        self.made += 1
        self.began.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return self.made


@pytest.fixture
async def maker() -> Maker:
    return Maker()


async def test_all_who_wait_get_one_value_and_those_who_come_later_the_same(maker: Maker):
    once = Once(maker.make, "make")
    waiting = [asyncio.create_task(once.get()) for _ in range(5)]
    await maker.began.wait()
    assert once.value is None
    maker.go.set()
    assert await asyncio.gather(*waiting) == [1] * 5
    assert (await once.get(), once.value, maker.made) == (1, 1, 1)


async def test_a_value_that_is_not_good_any_more_is_made_again(maker: Maker):
    maker.go.set()
    good = {1}
    once = Once(maker.make, "make", good.__contains__)
    assert (await once.get(), await once.get()) == (1, 1)
    good.clear()
    good.add(2)
    assert (await once.get(), await once.get()) == (2, 2)


async def test_a_failure_goes_to_all_who_wait_and_the_next_one_tries_again(maker: Maker):
    maker.error = ConnectError("not there")
    once = Once(maker.make, "make")
    waiting = [asyncio.create_task(once.get()) for _ in range(3)]
    await maker.began.wait()
    maker.go.set()
    assert await asyncio.gather(*waiting, return_exceptions=True) == [maker.error] * 3
    maker.error = None
    assert await once.get() == 2


async def test_the_work_goes_on_when_the_first_caller_leaves(maker: Maker):
    once = Once(maker.make, "make")
    first, second = (asyncio.create_task(once.get()) for _ in range(2))
    await maker.began.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    maker.go.set()
    assert (await second, maker.made) == (1, 1)


async def test_a_failure_that_no_caller_sees_is_no_warning(maker: Maker):
    warnings: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: warnings.append(context))
    maker.error = ConnectError("not there")
    once = Once(maker.make, "make")
    caller = asyncio.create_task(once.get())
    await maker.began.wait()
    caller.cancel()
    await asyncio.wait({caller})
    maker.go.set()
    assert await once.settle() is None
    await asyncio.sleep(0)
    maker.error.with_traceback(None)
    del once, caller
    gc.collect()
    assert warnings == []


async def test_the_end_cancels_the_work_and_fails_all_callers_for_its_reason(maker: Maker):
    once = Once(maker.make, "make")
    caller = asyncio.create_task(once.get())
    await maker.began.wait()
    reason = BackendClosedError("closed")
    assert await once.aclose(reason) is None
    for waiting in (caller, once.get()):
        with pytest.raises(BackendClosedError) as raised:
            await waiting
        assert raised.value is reason
    assert maker.made == 1


async def test_a_caller_that_is_cancelled_is_cancelled(maker: Maker):
    once = Once(maker.make, "make")
    caller = asyncio.create_task(once.get())
    await maker.began.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await once.aclose(BackendClosedError("closed"))


async def test_settling_waits_for_the_work_and_tells_the_value(maker: Maker):
    once = Once(maker.make, "make")
    assert await once.settle() is None
    caller = asyncio.create_task(once.get())
    await maker.began.wait()
    settling = asyncio.create_task(once.settle())
    maker.go.set()
    assert (await settling, await caller) == (1, 1)
    assert await once.aclose(BackendClosedError("closed")) == 1
