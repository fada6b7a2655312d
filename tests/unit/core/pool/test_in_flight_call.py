from __future__ import annotations

import asyncio

import pytest

from streaming_queue.core.pool.in_flight_call import InFlightCall
from streaming_queue.errors import ConnectError, RemoteError

GONE = ConnectError("gone")


async def begun(asking: asyncio.Future[str]) -> tuple[InFlightCall, asyncio.Task[str]]:
    async def run() -> str:
        calls.append(InFlightCall("A"))
        return await calls[0].run(asking)

    calls: list[InFlightCall] = []
    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    return calls[0], task


async def test_it_ends_as_its_question_does() -> None:
    loop = asyncio.get_running_loop()
    answered, failed = loop.create_future(), loop.create_future()
    _, first = await begun(answered)
    _, second = await begun(failed)
    answered.set_result("yes")
    failed.set_exception(RemoteError("no"))
    assert await first == "yes"
    with pytest.raises(RemoteError):
        await second


async def test_given_up_it_raises_the_first_reason_and_its_task_goes_on() -> None:
    call_in_flight, task = await begun(asyncio.get_running_loop().create_future())
    call_in_flight.give_up(GONE)
    call_in_flight.give_up(RemoteError("too late"))
    with pytest.raises(ConnectError) as raised:
        await task
    assert raised.value is GONE
    assert not task.cancelling()


async def test_what_is_over_cannot_be_given_up() -> None:
    task = asyncio.current_task()
    assert task is not None
    call_in_flight = InFlightCall("A")
    asking = asyncio.get_running_loop().create_future()
    asking.set_result("yes")
    assert await call_in_flight.run(asking) == "yes"
    call_in_flight.give_up(GONE)
    assert not task.cancelling()


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_cancelled_task_is_cancelled(given_up: bool) -> None:
    call_in_flight, task = await begun(asyncio.get_running_loop().create_future())
    task.cancel()
    if given_up:
        call_in_flight.give_up(GONE)
    with pytest.raises(asyncio.CancelledError):
        await task
