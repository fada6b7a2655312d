from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest
from unit.comm.agents import LIMITS, Agent, Echo, Gate, soon
from unit.comm.raw import ask, connection, get, post

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.host import respond
from streaming_queue.comm.host.asgi import cancelled_on_disconnect
from streaming_queue.comm.host.asgi_agent import GET, POST, AsgiAgent, RefusedError
from streaming_queue.comm.host.respond import Answer, send_end, send_stream
from streaming_queue.comm.payload import decode_payload
from streaming_queue.errors import ConnectError, RateLimitedError, StreamingQueueError, UnavailableError, error_event
from streaming_queue.messages import DELTA, MESSAGE
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

OWN = (b"x-own", b"1")


def encode(end: Any) -> Answer:
    status = 200 if end["type"] == MESSAGE else 429
    return status, orjson.dumps(end), ((b"x-more", b"2"),)


class Hosted(AsgiAgent):
    """A protocol of two paths: `/whole` and `/stream`."""

    def __init__(self, executor: Any) -> None:
        super().__init__("w", executor, InprocCommBackend(host_options=HostOptions(limits=LIMITS)))
        self.routes = {
            "/whole": (self.whole, POST),
            "/stream": (self.stream, POST),
            "/teapot": (self.teapot, ("GET",)),
            "/health": (self._health, GET),
        }

    def _failure(self, error: StreamingQueueError) -> Answer:
        return 503, orjson.dumps(error_event(error)), ()

    async def whole(self, scope: Any, body: bytes, send: Any) -> None:
        context = self._request(decode_payload(json.loads(body)))
        with cancelled_on_disconnect(scope), self._executions.attach(context) as execution:
            await send_end(send, execution, encode, OWN)

    async def stream(self, scope: Any, body: bytes, send: Any) -> None:
        context = self._request(decode_payload(json.loads(body)))
        with cancelled_on_disconnect(scope), self._executions.attach(context) as execution:
            await send_stream(send, execution, lambda event: orjson.dumps(event) + b"\n", OWN, opening=b"begin\n")

    async def teapot(self, scope: Any, body: bytes, send: Any) -> None:
        raise RefusedError(418, b"{}", OWN)


@pytest.fixture
async def host() -> Any:
    agents: list[Hosted] = []

    async def host(executor: Any) -> tuple[int, Hosted]:
        agent = await Hosted(executor).serve("127.0.0.1", 0)
        agents.append(agent)
        return int(agent.base_url.rpartition(":")[2]), agent

    yield host
    for agent in agents:
        await agent.stop()


def question(path: str) -> bytes:
    return post(path, b'{"text": "q"}')


async def unfit(context: Any, queue: Any) -> None:
    await queue.enqueue_event({"type": DELTA, "data": "a"})
    await queue.enqueue_event({"type": DELTA, "data": "\ud800"})
    await queue.enqueue_event({"type": DELTA, "data": "b"})


async def late(context: Any, queue: Any) -> None:
    await asyncio.sleep(0.1)
    await unfit(context, queue)


# --- whole answers ---


async def test_an_end_that_is_known_soon_has_its_own_status_and_headers(host: Any):
    async def refuse(context: Any, queue: Any) -> None:
        raise RateLimitedError("slow down")

    port, _ = await host(Agent(refuse))
    answer = await ask(port, question("/whole"))
    assert (answer.status, answer.json["code"]) == (429, "rate_limited")
    assert (answer.headers["x-own"], answer.headers["x-more"]) == ("1", "2")
    assert int(answer.headers["content-length"]) == len(answer.body)


async def test_a_late_end_follows_the_status_and_white_space(host: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.02)
    gate = Gate()
    port, _ = await host(gate)
    async with connection(port) as peer:
        await peer.write(question("/whole"))
        head = await peer.head()
        assert (head.status, head.headers["x-own"], head.headers.get("x-more")) == (200, "1", None)
        assert head.headers["content-type"] == "application/json"
        assert await peer.reader.readexactly(len(b"1\r\n\n\r\n")) == b"1\r\n\n\r\n"
        gate.open.set()
        assert b'"answer 1"' in await peer.reader.readuntil(b"0\r\n\r\n")


@pytest.mark.parametrize("behave", [unfit, late])
async def test_an_end_that_json_cannot_hold_is_a_failure(host: Any, monkeypatch: pytest.MonkeyPatch, behave: Any):
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.05)
    port, _ = await host(Agent(behave))
    answer = await ask(port, question("/whole"))
    assert (answer.status, answer.json["code"]) == (429 if behave is unfit else 200, "agent_failed")


async def test_an_error_before_the_head_is_an_answer(host: Any):
    port, agent = await host(Echo())
    await agent.drain(0)
    answer = await ask(port, question("/whole"))
    assert (answer.status, answer.json["code"]) == (503, UnavailableError.code)
    assert (await ask(port, get("/health"))).status == 503


@pytest.mark.parametrize(
    ("request_", "status", "allow"),
    [(get("/nothing"), 404, None), (get("/whole"), 405, "POST"), (post("/health", b""), 405, "GET, HEAD")],
)
async def test_wrong_paths_and_methods(host: Any, request_: bytes, status: int, allow: str | None):
    port, _ = await host(Echo())
    answer = await ask(port, request_)
    assert (answer.status, answer.code, answer.headers.get("allow")) == (status, "config", allow)


async def test_a_path_that_takes_get_takes_head_too(host: Any):
    port, _ = await host(Echo())
    async with connection(port) as peer:
        await peer.write(get("/teapot").replace(b"GET", b"HEAD"))
        assert (await peer.head()).status == 418


async def test_a_question_may_come_in_pieces(host: Any):
    port, _ = await host(Echo())
    async with connection(port) as peer:
        await peer.write(b"POST /whole HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b'8\r\n{"text":\r\n', b'4\r\n"q"}\r\n', b"0\r\n\r\n"):
            await peer.write(piece)
            await asyncio.sleep(0)
        assert (await peer.answer()).status == 200


async def test_a_handler_refuses_with_any_answer(host: Any):
    port, _ = await host(Echo())
    answer = await ask(port, get("/teapot"))
    assert (answer.status, answer.body, answer.headers["x-own"]) == (418, b"{}", "1")


# --- streams ---


async def test_a_stream_has_its_opening_its_events_and_its_end(host: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": DELTA, "data": "a"})

    port, _ = await host(Agent(behave))
    answer = await ask(port, question("/stream"))
    begin, *events = answer.body.splitlines()
    assert (answer.headers["content-type"], answer.headers["x-own"], begin) == ("text/event-stream", "1", b"begin")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
    assert [json.loads(event)["type"] for event in events] == [DELTA, MESSAGE]


async def test_a_stream_ends_with_the_event_that_json_cannot_hold(host: Any):
    port, _ = await host(Agent(unfit))
    events = [json.loads(line) for line in (await ask(port, question("/stream"))).body.splitlines()[1:]]
    assert [event.get("code", event["type"]) for event in events] == [DELTA, "agent_failed"]


async def test_a_silent_stream_shows_heartbeats(host: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.02)
    gate = Gate()
    port, _ = await host(gate)
    async with connection(port) as peer:
        await peer.write(question("/stream"))
        await peer.reader.readuntil(b"begin\n")
        await peer.reader.readuntil(b":\n\n")
        gate.open.set()
        assert (await peer.reader.readuntil(b"0\r\n\r\n")).count(b'"answer 1"') == 1


# --- the handle ---


async def test_an_agent_stops_once_even_if_a_caller_is_cancelled(host: Any):
    gate = Gate()
    port, agent = await host(gate)
    asked = asyncio.create_task(ask(port, question("/whole")))
    await gate.started.wait()
    impatient = asyncio.create_task(agent.stop())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(agent.stop(), agent.stop())
    assert (await asked).json["code"] == ConnectError.code
    assert gate.cancelled == 1
    assert impatient.cancelled()


async def test_leaving_cancels_a_question(host: Any):
    gate = Gate()
    port, _ = await host(gate)
    async with connection(port) as peer:
        await peer.write(question("/whole"))
        await gate.started.wait()
    await soon(lambda: gate.cancelled == 1)
