"""A watched wait, in virtual time. It looks after ten seconds of silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from unit.core.virtual_loop import virtually

from streaming_queue.comm.client.liveness import LostReplyError, Watch
from streaming_queue.comm.context import listening
from streaming_queue.errors import AuthError, ConnectError, RemoteError

LOST = ConnectError("refused")


class Agent:
    """`says` is what it says when it is asked for its work, the last for ever; `signs` when the caller heard of it."""

    def __init__(self, *says: Any) -> None:
        self.says = list(says)
        self.looks: list[float] = []
        self.signs: list[float] = []
        self.takes_s = 0.0
        self.began = asyncio.get_running_loop().time()
        self.left = 0

    @property
    def now(self) -> float:
        return round(asyncio.get_running_loop().time() - self.began, 3)

    async def look(self) -> bool | None:
        self.looks.append(self.now)
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.left += 1
            raise
        says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(says, Exception):
            raise says
        return says  # type: ignore[no-any-return]

    def heard(self) -> None:
        self.signs.append(self.now)


@asynccontextmanager
async def watching(agent: Agent) -> AsyncIterator[Watch]:
    with listening(agent.heard):
        watch = Watch(agent.look, 10.0, "http://peer")
    try:
        yield watch
    finally:
        await watch.aclose()


async def after(seconds: float, value: str = "reply") -> str:
    await asyncio.sleep(seconds)
    return value


async def for_ever() -> str:
    return await asyncio.get_running_loop().create_future()


@virtually
async def test_an_agent_at_work_is_waited_for_and_heard() -> None:
    agent = Agent(True)
    async with watching(agent) as watch:
        assert await watch.answer(after(45)) == "reply"
    assert agent.looks == agent.signs == [10, 20, 30, 40]
    await asyncio.sleep(100)
    assert len(agent.looks) == 4, "it looks no more"


@virtually
async def test_a_reply_in_time_is_watched_by_nobody() -> None:
    agent = Agent(True)
    async with watching(agent) as watch:
        assert await watch.answer(after(9)) == "reply"
    await asyncio.sleep(100)
    assert agent.looks == []


@virtually
async def test_what_comes_over_the_wire_puts_the_look_off() -> None:
    agent = Agent(True)
    async with watching(agent) as watch:
        for moment in (4, 9.5, 15):
            asyncio.get_running_loop().call_later(moment, watch.heard)
        await watch.answer(after(24))
        assert agent.looks == []
        assert agent.signs == [4, 9.5, 15]
        await watch.answer(after(2))
        assert agent.looks == [25]
        asyncio.get_running_loop().call_later(6, watch.heard)  # at 32
        await watch.answer(after(20))
        assert agent.looks == [25, 42]
        asyncio.get_running_loop().call_later(6.5, watch.heard)  # at 52.5, half a second after the next look
        asyncio.get_running_loop().call_later(6.6, watch.heard)
        await watch.answer(after(17))
        assert agent.looks == [25, 42, 52, 62.6]


@virtually
async def test_an_agent_that_is_out_of_reach_three_times_in_a_row_is_given_up() -> None:
    agent = Agent(LOST)
    async with watching(agent) as watch:
        with pytest.raises(ConnectError, match=f"^http://peer: .*{LOST}") as raised:
            await watch.answer(for_ever())
        assert not isinstance(raised.value, LostReplyError)
        assert agent.looks == [10, 20, 30]
        with pytest.raises(ConnectError):
            await watch.answer(for_ever())
        assert agent.now == 30, "at once"
        await asyncio.sleep(100)
    assert agent.looks == [10, 20, 30]
    assert agent.signs == []


@virtually
async def test_an_agent_that_does_not_say_within_five_seconds_is_out_of_reach() -> None:
    agent = Agent(True)
    agent.takes_s = 5.1
    async with watching(agent) as watch:
        with pytest.raises(ConnectError, match="5 s"):
            await watch.answer(for_ever())
    assert agent.looks == [10, 25, 40]
    assert agent.now == 45
    agent.takes_s = 4.9
    async with watching(agent) as watch:
        await watch.answer(after(100))
    assert agent.signs


@pytest.mark.parametrize("between", [True, None, RemoteError("no such method"), AuthError("no"), False])
def test_misses_count_in_a_row(between: Any) -> None:
    @virtually
    async def test() -> None:
        agent = Agent(LOST, LOST, between, LOST, LOST, True)
        async with watching(agent) as watch:
            assert await watch.answer(after(65)) == "reply"
        assert len(agent.looks) == 6

    test()


@virtually
async def test_after_a_sign_of_life_misses_count_anew() -> None:
    agent = Agent(LOST, LOST, LOST, LOST, True)
    async with watching(agent) as watch:
        asyncio.get_running_loop().call_later(22, watch.heard)
        assert await watch.answer(after(70)) == "reply"
    assert agent.looks == [10, 20, 32, 42, 52, 62]


@virtually
async def test_a_reply_is_lost_when_the_agent_is_at_work_no_more_twice_in_a_row() -> None:
    agent = Agent(False, True, False, None, False, False)
    async with watching(agent) as watch:
        with pytest.raises(LostReplyError, match=r"^http://peer: "):
            await watch.answer(for_ever())
    assert agent.looks == [10, 20, 30, 40, 50, 60]
    assert agent.signs == [20]


@virtually
async def test_an_agent_that_cannot_tell_is_waited_for() -> None:
    agent = Agent(None)
    async with watching(agent) as watch:
        assert await watch.answer(after(95)) == "reply"
    assert len(agent.looks) == 9
    assert agent.signs == []


@virtually
async def test_a_timeout_of_the_wait_itself_is_its_own() -> None:
    async def times_out() -> str:
        raise TimeoutError("the library's")

    async with watching(Agent(True)) as watch:
        with pytest.raises(TimeoutError) as raised:
            await watch.answer(times_out())
        assert not isinstance(raised.value, ConnectError)


@virtually
async def test_given_up_between_two_waits_whoever_reads_is_failed() -> None:
    class Content:
        error: Exception | None = None

        def set_exception(self, error: Exception) -> None:
            self.error = error

    class Response:
        content = Content()

    async def opening() -> Any:
        return Response()

    agent = Agent(LOST)
    async with watching(agent) as watch:
        response = await watch.response(opening())
        await asyncio.sleep(29)
        assert response.content.error is None
        await asyncio.sleep(2)
        assert isinstance(response.content.error, ConnectError)
        with pytest.raises(ConnectError):
            await watch.answer(after(1))


@virtually
async def test_given_up_before_the_response_the_next_wait_fails() -> None:
    agent = Agent(LOST)
    async with watching(agent) as watch:
        await asyncio.sleep(31)
        with pytest.raises(ConnectError):
            await watch.response(for_ever())  # type: ignore[arg-type]


@virtually
async def test_closing_ends_a_look_that_is_under_way() -> None:
    agent = Agent(True)
    agent.takes_s = 4.0
    async with watching(agent) as watch:
        await watch.answer(after(11))
    assert (agent.looks, agent.left) == ([10], 1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtually
async def test_a_look_that_fails_by_itself_ends_the_wait() -> None:
    async with watching(Agent(ValueError("a bug"))) as watch:
        with pytest.raises(ConnectError):
            await watch.answer(for_ever())
