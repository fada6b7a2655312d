"""Checks of streams."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import Any

import pytest

from streaming_queue.comm.context import listening
from streaming_queue.errors import ConnectError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.testing.checks.sending import MEGABYTE, TEXTS, TRANSFER_S
from streaming_queue.testing.executors import Agent, message, pieces
from streaming_queue.testing.expect import expect, expect_equal, shown, within
from streaming_queue.testing.lab import Lab
from streaming_queue.testing.verdict import holds

PIECES = [f"{number}," for number in range(200)]


async def _count(context: Any, queue: Any) -> None:
    await queue.enqueue_event({"type": STATUS, "data": "thinking"})
    await pieces(PIECES)(context, queue)


class Streaming:
    """Checks of streams."""

    @holds("stream-1")
    async def test_events_arrive_in_order(self, lab: Lab) -> None:
        await lab.host(Agent(_count))
        events = await lab.events()
        expect_equal(events[:1], [{"type": STATUS, "data": "thinking"}], "the first event:")
        expect_equal([event["data"] for event in events if event["type"] == DELTA], PIECES, "the pieces")
        expect_equal([event["type"] for event in events[-2:]], [DELTA, MESSAGE], "the last events")

    @holds("stream-2")
    async def test_pieces_arrive_before_the_end(self, lab: Lab) -> None:
        go_on = asyncio.Event()

        async def behave(context: Any, queue: Any) -> None:
            await queue.enqueue_event({"type": DELTA, "data": "a"})
            await go_on.wait()
            await queue.enqueue_event({"type": DELTA, "data": "b"})

        await lab.host(Agent(behave))
        stream = lab.stream()
        first = await within(5, anext(aiter(stream)), "a piece, while the agent still works,")
        expect_equal(first, {"type": DELTA, "data": "a"}, "the first event:")
        go_on.set()
        rest = [event async for event in stream]
        expect_equal([event.get("data") for event in rest], ["b", "ab"], "then")

    @holds("stream-3")
    async def test_a_stream_ends_once_with_the_whole_answer(self, lab: Lab) -> None:
        await (lab.host(Agent(_count)) if lab.hosts and lab.claims.streaming else lab.agent())
        whole = "".join(PIECES)
        events = await lab.events(whole)
        ends = [index for index, event in enumerate(events) if event["type"] == MESSAGE]
        kinds = [event["type"] for event in events]
        expect(ends == [len(events) - 1], f"one {MESSAGE}, as the last event", f"{shown(kinds[-5:])} at the end")
        expect_equal(events[-1].get("data"), whole, "the whole answer")

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    @holds("stream-4")
    async def test_text_arrives_by_stream_as_it_left(self, lab: Lab, text: str) -> None:
        await lab.agent()
        events = await lab.events(text)
        expect_equal(events[-1].get("data"), text, "the answer")
        expect(not lab.hosts or len(events) == 1, "one event for an answer in one piece", f"{len(events)} events")

    @holds("stream-5")
    async def test_an_agent_knows_that_its_caller_reads_pieces(self, lab: Lab) -> None:
        await lab.host(Agent(lambda context, queue: queue.enqueue_event(message(str(context.streaming)))))
        expect_equal(await lab.ask("stream"), "True", "`streaming` at the agent:")

    @holds("stream-6")
    async def test_a_piece_is_a_sign_of_life(self, lab: Lab) -> None:
        heard = 0

        def listener() -> None:
            nonlocal heard
            heard += 1

        read = [asyncio.Event() for _ in range(3)]

        async def behave(context: Any, queue: Any) -> None:
            for piece, reader in enumerate(read):
                await queue.enqueue_event({"type": DELTA, "data": str(piece)})
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.wait(), 2)

        await lab.host(Agent(behave))
        signs = []
        with listening(listener):
            async for event in lab.stream():
                if event["type"] == DELTA:
                    signs.append(heard)
                    read[int(event["data"])].set()
        rising = all(earlier < later for earlier, later in itertools.pairwise([0, *signs]))
        expect(
            len(signs) == 3 and rising, "3 pieces, and a new sign of life with each", f"signs so far, by piece: {signs}"
        )

    @holds("stream-7")
    async def test_no_piece_comes_twice(self, lab: Lab) -> None:
        go_on = asyncio.Event()

        async def behave(context: Any, queue: Any) -> None:
            for piece in "0123":
                if piece == "2":
                    await go_on.wait()
                await queue.enqueue_event({"type": DELTA, "data": piece})

        wire = (await lab.host(Agent(behave))).wire
        stream: Any = lab.stream(idempotency_key="k")
        events = [await within(5, anext(stream), "a piece") for _ in range(2)]
        wire.reset()
        await wire.restore()
        go_on.set()
        with suppress(ConnectError):
            events += await within(10, _rest(stream), "an end")
            expect_equal(events[-1], message("0123"), "the end")
            events.pop()
        came = "".join(event["data"] for event in events)
        expect("0123".startswith(came), "the pieces, none of them twice", shown(came))

    @holds("stream-8")
    async def test_a_long_answer_in_pieces_arrives(self, lab: Lab) -> None:
        await lab.host(Agent(pieces([MEGABYTE] * 9)))
        events = await within(TRANSFER_S, lab.events(), "an answer")
        expect_equal([len(event["data"]) for event in events[:-1]], [len(MEGABYTE)] * 9, "the pieces' lengths:")
        expect(events[-1] == message(MEGABYTE * 9), "the whole answer", f"{len(events[-1]['data'])} characters")


async def _rest(stream: Any) -> list[Any]:
    return [event async for event in stream]
