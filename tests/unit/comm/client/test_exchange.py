"""An exchange over a scripted wire: it resumes, tells each event once, folds, and cancels when its caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from unit.core.virtual_loop import virtually

from streaming_queue.comm import answer_limit
from streaming_queue.comm.client import exchange as module
from streaming_queue.comm.client.exchange import HELD_S, Cancels, Exchange
from streaming_queue.errors import AgentFailedError, ProtocolError, RemoteError
from streaming_queue.messages import DELTA, MESSAGE, Reply, StreamEvent

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

Try = list[str | Exception | float]
"""What one try brings: pieces of the answer, the answer (`=text`), an error, or a silence in seconds."""


class Scripted(Exchange):
    """An exchange whose tries are given; `cancels_sent` counts its cancels."""

    def __init__(self, *tries: Try, replays: bool = True, **metadata: Any) -> None:
        super().__init__("peer", {"text": "?", "metadata": metadata}, Cancels())
        self.tries = list(tries)
        self.cancels_sent = 0
        self.replays = replays  # type: ignore[misc]  # a class says it

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        for step in self.tries.pop(0):
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif step.startswith("="):
                yield {"type": MESSAGE, "data": step[1:]}
            else:
                yield {"type": DELTA, "data": step}

    def resumes(self, error: Exception) -> bool:
        return self.key is not None and isinstance(error, ConnectionResetError)

    async def cancel(self) -> None:
        self.cancels_sent += 1


class Direct(Scripted):
    """One whose whole answer has a path of its own."""

    async def ask(self) -> Reply:
        step = self.tries.pop(0)[0]
        if isinstance(step, Exception):
            raise step
        return Reply(raw="native", text=str(step))


async def told(exchange: Exchange) -> list[str]:
    async with aclosing(exchange.stream()) as events:
        return [event["data"] async for event in events]


BREAK = ConnectionResetError()


async def test_each_event_is_told_once_after_a_break() -> None:
    exchange = Scripted(["a", "b", BREAK], ["a", "b", "c", "=abc"], idempotency_key="k")
    assert await told(exchange) == ["a", "b", "c", "abc"]
    assert (exchange.resumed, exchange.cancels_sent) == (1, 0)


async def test_the_answer_is_told_also_when_it_comes_sooner_than_before() -> None:
    assert await told(Scripted(["a", "b", BREAK], ["=ab"], idempotency_key="k")) == ["a", "b", "ab"]


async def test_events_that_go_on_by_themselves_are_all_told() -> None:
    exchange = Scripted(["a", "b", BREAK], ["c", "=abc"], replays=False, idempotency_key="k")
    assert await told(exchange) == ["a", "b", "c", "abc"]


async def test_what_comes_after_the_answer_is_not_told() -> None:
    assert await told(Scripted(["a", "=a", "b"])) == ["a", "a"]


async def test_an_answer_is_the_fold_of_its_events() -> None:
    exchange = Scripted(["a", BREAK], ["a", "=ab"], idempotency_key="k")
    assert await exchange.answer() == {"raw": {"type": MESSAGE, "data": "ab"}, "text": "ab"}
    assert not exchange.streaming
    exchange = Scripted(["a", "=ab"])
    exchange.reply = Reply(raw="native", text="ab")
    assert (await exchange.answer())["raw"] == "native"


async def test_or_comes_by_a_path_of_its_own() -> None:
    exchange = Direct([BREAK], ["ab"], idempotency_key="k")
    assert await exchange.answer() == {"raw": "native", "text": "ab"}
    assert exchange.resumed == 1


@pytest.mark.parametrize("steps", [[], ["a"]])
async def test_no_answer_is_an_error(steps: Try) -> None:
    with pytest.raises(ProtocolError):
        await told(Scripted(steps))
    with pytest.raises(ProtocolError):
        await Scripted(steps).answer()


@pytest.mark.parametrize("steps", [["abc", "de"], ["=abcde"]])
async def test_an_answer_over_the_limit_is_an_error(steps: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_limit, "MAX_ANSWER_BYTES", 4)
    with pytest.raises(ProtocolError, match=r"^peer: "):
        await told(Scripted(steps))
    with pytest.raises(ProtocolError, match=r"^peer: "):
        await Scripted(steps).answer()
    if steps[0] == "=abcde":
        with pytest.raises(ProtocolError):
            await Direct(["abcde"]).answer()


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Breaking(Scripted):
    """Breaks after as many seconds as each try is given."""

    def __init__(self, clock: Clock, *held_s: float, error: Exception = BREAK, **metadata: Any) -> None:
        super().__init__(*([seconds] for seconds in held_s), **metadata)
        self.clock, self.error = clock, error

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        self.clock.now += float(str(self.tries.pop(0)[0]))
        raise self.error
        yield {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.mark.parametrize("ask", [told, Exchange.answer])
@pytest.mark.parametrize(
    ("held_s", "resumed"),
    [
        ((0.0, 0.0), 1),
        ((HELD_S, HELD_S), 1),
        ((HELD_S + 0.5, HELD_S + 0.5, 0.5, HELD_S + 0.5, HELD_S, HELD_S), 5),
    ],
)
async def test_a_broken_connection_is_resumed_once_and_after_each_that_held_for_a_second(
    ask: Any, held_s: tuple[float, ...], resumed: int, clock: Clock
) -> None:
    exchange = Breaking(clock, *held_s, idempotency_key="k")
    with pytest.raises(ConnectionResetError):
        await ask(exchange)
    assert exchange.resumed == resumed
    assert exchange.tries == []


@pytest.mark.parametrize("ask", [told, Exchange.answer])
@pytest.mark.parametrize("held_s", [0.0, HELD_S + 0.1])
async def test_without_a_key_or_a_break_nothing_is_resumed(ask: Any, held_s: float, clock: Clock) -> None:
    with pytest.raises(ConnectionResetError):
        await ask(Breaking(clock, held_s))
    with pytest.raises(AgentFailedError):
        await ask(Breaking(clock, held_s, error=AgentFailedError("no"), idempotency_key="k"))


async def test_an_exchange_resumes_nothing_by_itself() -> None:
    assert not Exchange.resumes(Scripted(), ConnectionResetError())


@pytest.mark.parametrize(
    ("metadata", "key", "cancels"),
    [
        ({"idempotency_key": "k"}, "k", 1),
        ({"idempotency_key": "k", "kind": "question"}, "k", 1),
        ({"idempotency_key": "k", "kind": "command"}, "k", 0),
        ({"idempotency_key": ""}, None, 0),
        ({"idempotency_key": 7}, None, 0),
        ({}, None, 0),
    ],
)
@virtually
async def test_a_caller_that_leaves_cancels_a_question_with_a_key(
    metadata: dict[str, Any], key: str | None, cancels: int
) -> None:
    exchange = Scripted([9.0], **metadata)
    assert exchange.key == key
    asking = asyncio.create_task(exchange.answer())
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert exchange.cancels_sent == cancels

    exchange = Scripted(["a", 9.0], **metadata)
    async with aclosing(exchange.stream()) as events:
        assert (await anext(events))["data"] == "a"
    assert exchange.cancels_sent == cancels

    exchange = Scripted([9.0], **metadata)
    reading = asyncio.create_task(told(exchange))
    await asyncio.sleep(0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert exchange.cancels_sent == cancels
    assert exchange.streaming


def test_a_message_without_metadata_has_no_key() -> None:
    class Plain(Scripted):
        def __init__(self, payload: dict[str, Any]) -> None:
            Exchange.__init__(self, "peer", payload, Cancels())

    assert Plain({"text": "?", "metadata": None}).key is None
    assert Plain({"text": "?"}).key is None


async def test_a_caller_that_leaves_after_the_answer_cancels_nothing() -> None:
    exchange = Scripted(["=a"], idempotency_key="k")
    async with aclosing(exchange.stream()) as events:
        assert (await anext(events))["data"] == "a"
    assert exchange.cancels_sent == 0


async def test_a_failure_cancels_nothing_but_one_that_the_backend_names() -> None:
    class Naming(Scripted):
        leaves = (RemoteError,)

    for kind, cancels in ((Scripted, 0), (Naming, 1)):
        exchange = kind([RemoteError("no")], idempotency_key="k")
        with pytest.raises(RemoteError):
            await exchange.answer()
        assert exchange.cancels_sent == cancels
        exchange = kind(["a", RemoteError("no")], idempotency_key="k")
        with pytest.raises(RemoteError):
            await told(exchange)
        assert exchange.cancels_sent == cancels


# --- cancels ---


@virtually
async def test_a_cancel_has_a_second() -> None:
    ended = []

    async def cancel(seconds: float) -> None:
        await asyncio.sleep(seconds)
        ended.append(seconds)

    loop, cancels = asyncio.get_running_loop(), Cancels()
    began = loop.time()
    await cancels.send("w", lambda: cancel(0.9))
    assert loop.time() - began == pytest.approx(0.9)
    await cancels.send("w", lambda: cancel(1.1))
    assert loop.time() - began == pytest.approx(1.9)
    assert ended == [0.9]
    assert not len(cancels)


@pytest.mark.parametrize("error", [RemoteError("no"), ConnectionResetError("reset")])
async def test_a_cancel_that_fails_is_the_end_of_it(error: Exception) -> None:
    async def cancel() -> None:
        raise error

    await Cancels().send("w", cancel)


@virtually
async def test_closing_waits_for_the_cancels_in_flight_and_begins_none() -> None:
    ended = []

    async def cancel() -> None:
        await asyncio.sleep(0.5)
        ended.append("cancelled")

    loop, cancels = asyncio.get_running_loop(), Cancels()
    began = loop.time()
    sending = asyncio.create_task(cancels.send("w", cancel))
    await asyncio.sleep(0.1)
    sending.cancel()
    await sending  # the caller's own cancellation is its own to pass on
    await cancels.aclose()
    assert ended == ["cancelled"]
    assert loop.time() - began == pytest.approx(0.5)
    await cancels.send("w", cancel)
    await cancels.aclose()
    assert ended == ["cancelled"]
    assert loop.time() - began == pytest.approx(0.5)
