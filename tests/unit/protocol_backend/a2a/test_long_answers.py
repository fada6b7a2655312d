"""Tasks that last, streams that break, repeat or never end."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from unit.comm.agents import soon
from unit.protocol_backend.a2a.peer import (
    Peer,
    answer,
    events,
    message,
    piece,
    result,
    send,
    status,
    stream,
    task,
)

from streaming_queue.comm.context import listening
from streaming_queue.errors import ConnectError, ProtocolError, RemoteError, SendTimeoutError, StreamingQueueError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.a2a import exchange

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


# --- agents that do not stream ---


async def test_a_task_under_way_is_asked_for_until_it_ends(backend: Any):
    states = iter([{"task": task("SUBMITTED")}, task(), task(said="at it"), task("COMPLETED", "hi")])
    signs: list[None] = []
    async with Peer(lambda call: result(call, next(states)), streaming=False) as peer:
        with listening(lambda: signs.append(None)):
            reply = await send(backend, peer.url)
        assert (reply["text"], reply["raw"]["status"]["state"]) == ("hi", "TASK_STATE_COMPLETED")
        assert peer.methods == ["SendMessage", "GetTask", "GetTask", "GetTask"]
        assert peer.calls[0]["params"]["configuration"] == {"returnImmediately": True}
        assert peer.calls[-1]["params"] == {"id": "t"}
        assert len(signs) == 3


@pytest.mark.parametrize("trouble", ["breaks", "503", "429", "garbage"])
async def test_a_task_is_asked_for_through_short_trouble_but_not_for_ever(backend: Any, trouble: str):
    states = iter([{"task": task()}, None, None, task(), None, task("COMPLETED", "hi"), {"task": task()}])
    bad = {
        "breaks": b"",
        "503": answer(b"no", "503 Busy"),
        "429": answer(b"no", "429 Slow", "retry-after: 0"),
        "garbage": answer(b"<html>"),
    }

    def respond(call: dict[str, Any]) -> bytes:
        state = next(states, None)
        return bad[trouble] if state is None else result(call, state)

    async with Peer(respond, streaming=False) as peer:
        assert (await send(backend, peer.url))["text"] == "hi"
        with pytest.raises(StreamingQueueError, match=peer.url):
            await send(backend, peer.url)
        assert peer.methods.count("SendMessage") == 2
        assert peer.methods[-exchange.RECOVERIES :] == ["GetTask"] * exchange.RECOVERIES


async def test_a_task_that_is_forgotten_is_given_up_at_once(backend: Any):
    states = iter([{"task": task()}, task()])

    def respond(call: dict[str, Any]) -> bytes:
        state = next(states, None)
        if state is None:
            return answer({"id": call["id"], "error": {"code": -32001, "message": "no such task"}})
        return result(call, state)

    async with Peer(respond, streaming=False) as peer:
        with pytest.raises(RemoteError, match=f"{peer.url}: .*no such task"):
            await send(backend, peer.url)
        assert peer.methods == ["SendMessage", "GetTask", "GetTask"]


async def test_a_task_whose_state_is_not_told_in_time_is_given_up(backend: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exchange, "LOOK_TIMEOUT_S", 0.05)

    def respond(call: dict[str, Any]) -> bytes:
        return result(call, {"task": task()}) if call["method"] == "SendMessage" else b"HTTP/1.1 200 OK\r\n"

    async with Peer(respond, streaming=False) as peer:
        with pytest.raises(ConnectError, match=f"{peer.url}: no state of its task within"):
            await send(backend, peer.url)


# --- streams ---


async def test_an_answer_that_was_said_on_the_way_is_read_from_the_whole_task(backend: Any):
    def respond(call: dict[str, Any]) -> bytes:
        if call["method"] == "SendStreamingMessage":
            return events(call, {"task": task()}, status("WORKING", "the answer"), status("COMPLETED"))
        if call["method"] == "SubscribeToTask":
            return answer({"id": call["id"], "error": {"code": -32004, "message": "terminal"}})
        said = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "the answer"}]}
        return result(call, {**task("COMPLETED"), "history": [said]})

    async with Peer(respond) as peer:
        assert (await send(backend, peer.url))["text"] == "the answer"


async def test_a_words_metadata_come_with_it_and_are_not_the_answers(backend: Any):
    word = status("WORKING", "half of it")
    word["statusUpdate"]["metadata"] = {"done": 5.0, "of": 10}
    silent = {"statusUpdate": {**status("WORKING")["statusUpdate"], "metadata": {"done": 7}}}
    end = {"statusUpdate": {**status("COMPLETED")["statusUpdate"], "metadata": {"llm_ms": 2.5}}}
    async with Peer(lambda call: events(call, {"task": task()}, word, silent, piece("hi"), end)) as peer:
        assert await stream(backend, peer.url) == [
            {"type": STATUS, "data": "half of it", "metadata": {"done": 5, "of": 10}},
            {"type": STATUS, "data": "", "metadata": {"done": 7}},
            {"type": DELTA, "data": "hi"},
            {"type": MESSAGE, "data": "hi", "metadata": {"llm_ms": 2.5}},
        ]


async def test_a_stream_that_breaks_is_taken_up_again_and_nothing_told_twice(backend: Any):
    def respond(call: dict[str, Any]) -> bytes:
        if call["method"] == "SendStreamingMessage":
            return events(call, {"task": task()}, piece("one "), piece("two ", append=True), end=False)
        assert call["params"] == {"id": "t"}
        return events(
            call,
            {"task": task()},
            piece("one "),
            piece("two ", append=True),
            piece("three", append=True),
            status("COMPLETED"),
        )

    async with Peer(respond) as peer:
        told = await stream(backend, peer.url)
        assert [event["data"] for event in told] == ["one ", "two ", "three", "one two three"]
        assert [event["type"] for event in told] == [DELTA] * 3 + [MESSAGE]
        assert peer.methods == ["SendStreamingMessage", "SubscribeToTask"]


@pytest.mark.parametrize("refusal", ["error", "ends", "breaks"])
async def test_a_stream_that_cannot_be_taken_up_is_asked_for(backend: Any, refusal: str):
    def respond(call: dict[str, Any]) -> bytes:
        if call["method"] == "SendStreamingMessage":
            return events(call, {"task": task()}, status("WORKING", "at it"), piece("one "))
        if call["method"] == "GetTask":
            return result(call, task("COMPLETED", "one two"))
        if refusal == "error":
            return answer({"id": call["id"], "error": {"code": -32004, "message": "terminal"}})
        return events(call) if refusal == "ends" else b""

    async with Peer(respond) as peer:
        told = await stream(backend, peer.url)
        assert [(event["type"], event["data"]) for event in told] == [
            (STATUS, "at it"),
            (DELTA, "one "),
            (DELTA, "two"),
            (MESSAGE, "one two"),
        ]
        assert peer.methods == ["SendStreamingMessage", "SubscribeToTask", "GetTask"]


@pytest.mark.parametrize("end", [True, False])
async def test_a_stream_that_ends_early_without_a_task(backend: Any, end: bool):
    async with Peer(lambda call: events(call, end=end)) as peer:
        with pytest.raises(ProtocolError if end else ConnectError, match=peer.url):
            await stream(backend, peer.url)
        assert peer.methods == ["SendStreamingMessage"]


async def test_a_stream_that_repeats_itself(backend: Any):
    def respond(call: dict[str, Any]) -> bytes:
        done = status("COMPLETED")
        return events(call, {"task": task()}, {"task": task()}, piece("hi"), piece("hi"), done, done, message("more"))

    async with Peer(respond) as peer:
        assert [event["data"] for event in await stream(backend, peer.url)] == ["hi", "hi"]


async def test_a_whole_answer_after_its_pieces_is_not_told_again(backend: Any):
    whole = piece("one two")
    whole["artifactUpdate"]["lastChunk"] = True
    pieces = (piece("one "), piece("two", append=True))
    async with Peer(lambda call: events(call, {"task": task()}, *pieces, whole, status("COMPLETED"))) as peer:
        assert await stream(backend, peer.url) == [
            {"type": DELTA, "data": "one "},
            {"type": DELTA, "data": "two"},
            {"type": MESSAGE, "data": "one two"},
        ]


async def test_an_event_may_hold_a_long_answer_that_json_writes_twice_as_long(backend: Any):
    text = '"' * 9 * 2**20
    async with Peer(lambda call: events(call, {"task": task()}, piece(text), status("COMPLETED"))) as peer:
        told = await stream(backend, peer.url)
        assert [(event["type"], event["data"] == text) for event in told] == [(DELTA, True), (MESSAGE, True)]
    async with Peer(lambda call: events(call, {"task": task()}, piece("\x00" * 6 * 2**20))) as peer:
        with pytest.raises(ProtocolError, match="over the limit"):
            await stream(backend, peer.url)


async def test_a_stream_that_changes_its_task(backend: Any):
    async with Peer(lambda call: events(call, {"task": task()}, {"task": task(task_id="other")})) as peer:
        with pytest.raises(ProtocolError, match=f"{peer.url}: .*another task"):
            await stream(backend, peer.url)


async def test_a_stream_that_never_ends(backend: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streaming_queue.protocol_backend.a2a.comm.DEADLINE_MARGIN_S", 0.0)

    class Endless(Peer):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            me = asyncio.current_task()
            assert me is not None
            self._tasks.add(me)
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if head.startswith("GET"):
                    writer.write(self._card())
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                call = json.loads(await reader.readexactly(length))
                self.calls.append(call)
                writer.write(events(call, {"task": task()}, end=False))
                while call["method"] == "SendStreamingMessage":
                    writer.write(events(call, status("WORKING", "at it"), end=False).partition(b"\r\n\r\n")[2])
                    await writer.drain()
                    await asyncio.sleep(0.01)
            except (ConnectionError, asyncio.IncompleteReadError):
                return
            finally:
                writer.close()

    async with Endless() as peer:
        started = time.monotonic()
        with pytest.raises(SendTimeoutError, match=peer.url):
            await stream(backend, peer.url, deadline_ms=300)
        assert time.monotonic() - started < 2
        await soon(lambda: "CancelTask" in peer.methods)
        with pytest.raises(ProtocolError, match="over the limit"):
            await _flood(backend)


async def _flood(backend: Any) -> None:
    def respond(call: dict[str, Any]) -> bytes:
        return events(call, {"task": task()}, *[piece("x" * 1_000_000, append=True)] * 17)

    async with Peer(respond) as peer:
        await stream(backend, peer.url)


async def test_a_silent_peer_is_given_up_at_the_deadline(backend: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streaming_queue.protocol_backend.a2a.comm.DEADLINE_MARGIN_S", 0.0)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
    for ask in (send, stream):
        async with Peer(lambda _: head) as peer:
            with pytest.raises(SendTimeoutError, match=f"{peer.url}: no answer before the deadline"):
                await ask(backend, peer.url, deadline_ms=100)
