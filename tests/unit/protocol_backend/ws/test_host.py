"""What stands on the wire when we host."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import LIMITS, Agent, Echo, Gate, Stubborn, message, soon
from unit.comm.raw import ask, connection, get, post
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streaming_queue.comm.base import EndpointOptions, HostLimits, HostOptions
from streaming_queue.errors import AgentFailedError, AuthError, ConfigError, ConnectError, ProtocolError
from streaming_queue.messages import DELTA, ERROR, MESSAGE, STATUS
from streaming_queue.protocol_backend.ws import connection as ws_connection
from streaming_queue.protocol_backend.ws import conversation
from streaming_queue.protocol_backend.ws.comm import WsCommBackend
from streaming_queue.protocol_backend.ws.frames import LIMIT_HEADER, SUBPROTOCOL

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
async def spawn():
    """Host an executor; returns the port and a backend that knows it as `w`."""
    backends: list[WsCommBackend] = []

    async def spawn(
        executor: Any, options: EndpointOptions | None = None, host: str = "127.0.0.1", **host_options: Any
    ) -> tuple[int, WsCommBackend]:
        backend = WsCommBackend(
            options={"w": options} if options else {}, host_options=HostOptions(**{"limits": LIMITS, **host_options})
        )
        backends.append(backend)
        handle = await backend.spawn_local_agent("w", host, 0, executor)
        spawn.agents.append(handle)
        await backend.register_endpoint("w", handle.base_url)
        return int(handle.base_url.rpartition(":")[2]), backend

    spawn.agents = []
    yield spawn
    for backend in backends:
        await backend.close()


@pytest.fixture(autouse=True)
def no_traceback_in_the_log(caplog: pytest.LogCaptureFixture):
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if record.exc_info]


def dial(port: int, **options: Any) -> connect:
    options = {"subprotocols": [SUBPROTOCOL], "compression": None, "proxy": None, "max_size": None, **options}
    return connect(f"ws://127.0.0.1:{port}", **options)


async def tell(peer: ClientConnection, *frames: Any) -> None:
    for frame in frames:
        await peer.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))


async def hear(peer: ClientConnection) -> Any:
    async with asyncio.timeout(5):
        return json.loads(await peer.recv())


async def close_of(peer: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the host closes."""
    with pytest.raises(ConnectionClosed) as caught:
        async with asyncio.timeout(5):
            while True:
                await peer.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def asked(number: int, text: str = "q", **more: Any) -> dict[str, Any]:
    return {"type": "request", "id": number, "text": text, **more}


def keyed(number: int, text: str = "q", **more: Any) -> dict[str, Any]:
    return asked(number, text, metadata={"idempotency_key": "k"}, **more)


# --- the contract's frames ---


async def test_a_request_and_its_answer(spawn: Any):
    port, _ = await spawn(Echo())
    async with dial(port) as peer:
        await tell(peer, asked(1, "hello"))
        assert await hear(peer) == {"type": MESSAGE, "id": 1, "data": "hello"}


@pytest.mark.parametrize(
    "frame",
    [
        '{\n  "id" : 3, "type": "request", "text" : "\\u0068i"\n}\n',
        '{"type":"request","id":3,"text":"hi","later":{"version":2}}',
        '{"type":"request","id":3,"text":"hi","metadata":null,"stream":false}',
        '{"type":"request","id":3,"parts":[{"kind":"text","text":"hi"},{"kind":"file","uri":"x"}]}',
    ],
)
async def test_every_spelling_of_a_request_is_taken(spawn: Any, frame: str):
    port, _ = await spawn(Echo())
    async with dial(port) as peer:
        await tell(peer, frame)
        assert await hear(peer) == {"type": MESSAGE, "id": 3, "data": "hi"}


async def test_requests_share_the_connection_and_overtake_each_other(spawn: Any):
    gate = Gate()

    async def behave(context: Any, queue: Any) -> None:
        await (gate if context.get_user_input() == "slow" else Echo()).execute(context, queue)

    port, _ = await spawn(Agent(behave))
    async with dial(port) as peer:
        await tell(peer, asked(1, "slow"), asked(2, "two"), asked(2**53 - 1, "last"))
        assert [(await hear(peer))["id"] for _ in range(2)] == [2, 2**53 - 1]
        gate.open.set()
        assert await hear(peer) == {"type": MESSAGE, "id": 1, "data": "answer 1"}
        await tell(peer, asked(1, "again"))
        assert (await hear(peer))["data"] == "again"


async def test_a_stream_is_events_with_the_requests_id(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": STATUS, "data": "thinking", "metadata": {"step": 1}})
        await queue.enqueue_event({"type": DELTA, "data": "a"})
        await queue.enqueue_event(message("a b", metadata={"llm_ms": 1.5}))

    port, backend = await spawn(Agent(behave))
    async with dial(port) as peer:
        await tell(peer, asked(7, stream=True))
        assert [await hear(peer) for _ in range(3)] == [
            {"type": STATUS, "id": 7, "data": "thinking", "metadata": {"step": 1}},
            {"type": DELTA, "id": 7, "data": "a"},
            {"type": MESSAGE, "id": 7, "data": "a b", "metadata": {"llm_ms": 1.5}},
        ]
        await tell(peer, asked(8))
        assert await hear(peer) == {"type": MESSAGE, "id": 8, "data": "a b", "metadata": {"llm_ms": 1.5}}
    first = await anext(aiter(backend.stream("c", "w", {"text": "q"})))
    assert first == {"type": STATUS, "data": "thinking", "metadata": {"step": 1}}


async def test_what_rides_along_reaches_the_executor(spawn: Any):
    seen: list[Any] = []

    async def behave(context: Any, queue: Any) -> None:
        seen.append((context.call_context.question_id, context.call_context.attempt, dict(context.metadata)))
        await queue.enqueue_event(message("x"))

    port, _ = await spawn(Agent(behave))
    metadata = {"question_id": "问", "attempt": 2, "mine": [1]}
    async with dial(port) as peer:
        await tell(peer, asked(1, metadata=metadata))
        await hear(peer)
    assert seen == [("问", 2, metadata)]


async def test_a_ping_frame_asks_for_the_agents_state(spawn: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    (agent,) = spawn.agents
    async with dial(port) as peer:
        await tell(peer, {"type": "ping", "id": 1}, asked(2))
        assert await hear(peer) == {"type": "pong", "id": 1, "status": "ok", "agent_id": "w"}
        await gate.started.wait()
        draining = asyncio.create_task(agent.drain(5))
        await asyncio.sleep(0)
        await tell(peer, {"type": "ping", "id": 3}, asked(4))
        assert (await hear(peer))["status"] == "draining"
        refused = await hear(peer)
        assert (refused["id"], refused["type"], refused["code"]) == (4, ERROR, "unavailable")
        assert not await backend.health_check("w")
        answer = await ask(port, get("/health"))
        assert (answer.status, answer.json) == (503, {"status": "draining", "agent_id": "w"})
        gate.open.set()
        await draining
        assert (await hear(peer))["data"] == "answer 1"


async def test_what_is_under_way_is_told_in_one_heartbeat(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conversation, "HEARTBEAT_S", 0.03)
    gate = Gate()
    port, _ = await spawn(gate)
    async with dial(port) as peer:
        await asyncio.sleep(0.1)
        await tell(peer, asked(5), asked(6, stream=True))
        for _ in range(3):
            frame = await hear(peer)
            assert frame["type"] == "heartbeat"
            assert sorted(frame["ids"]) == [5, 6]
        gate.open.set()
        ids = set()
        while len(ids) < 2:
            if (frame := await hear(peer))["type"] == MESSAGE:
                ids.add(frame["id"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await peer.recv()


# --- cancelling, leaving, coming back ---


async def test_a_cancel_ends_the_work_and_its_id_is_free_at_once(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with dial(port) as peer:
        await tell(peer, keyed(1))
        await gate.started.wait()
        await tell(peer, {"type": "cancel", "id": 1}, {"type": "cancel", "id": 1}, {"type": "cancel", "id": 99})
        answer = await hear(peer)
        assert (answer["id"], answer["type"], answer["code"]) == (1, ERROR, "agent_failed")
        assert "cancelled" in answer["message"]
        assert gate.cancelled == 1


async def test_frames_in_one_packet_are_taken_in_their_order(spawn: Any):
    gate = Gate()
    gate.open.set()
    port, _ = await spawn(gate)
    async with dial(port) as peer:
        frames = [keyed(1), {"type": "cancel", "id": 1}, keyed(2)]
        for frame in frames:
            peer.protocol.send_text(json.dumps(frame).encode())
        peer.send_data()
        answers = {(frame := await hear(peer))["id"]: frame for _ in range(2)}
    assert answers[1]["code"] == "agent_failed"
    assert answers[2]["data"].startswith("answer")


async def test_a_command_is_not_cancelled(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with dial(port) as peer:
        await tell(peer, asked(1, metadata={"kind": "command"}))
        await gate.started.wait()
        await tell(peer, {"type": "cancel", "id": 1}, {"type": "ping", "id": 2})
        assert (await hear(peer))["type"] == "pong"
        gate.open.set()
        assert (await hear(peer))["data"] == "answer 1"


async def test_a_broken_connection_may_come_back_for_the_same_work(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with dial(port) as peer:
        await tell(peer, keyed(1))
        await gate.started.wait()
        peer.transport.abort()
    await asyncio.sleep(0.1)
    async with dial(port) as peer:
        await tell(peer, keyed(9))
        await asyncio.sleep(0.4)
        gate.open.set()
        assert await hear(peer) == {"type": MESSAGE, "id": 9, "data": "answer 1"}
        await tell(peer, keyed(10))
        assert (await hear(peer))["data"] == "answer 1"
    assert (gate.runs, gate.cancelled) == (1, 0)


@pytest.mark.parametrize(("frame", "low", "high"), [(keyed(1), 0.25, 1.0), (asked(1), 0.0, 0.15)])
async def test_whoever_does_not_come_back_ends_the_work(spawn: Any, frame: Any, low: float, high: float):
    gate = Gate()
    port, _ = await spawn(gate)
    async with dial(port) as peer:
        await tell(peer, frame)
        await gate.started.wait()
        peer.transport.abort()
    left = time.monotonic()
    await soon(lambda: gate.cancelled == 1)
    assert low <= time.monotonic() - left < high


async def test_the_key_of_another_text_is_refused(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with dial(port) as peer:
        await tell(peer, keyed(1, "one"), keyed(2, "two"))
        answer = await hear(peer)
        assert (answer["id"], answer["code"], answer["retryable"]) == (2, "protocol", False)
        gate.open.set()
        assert (await hear(peer))["id"] == 1


# --- what is no frame ---


@pytest.mark.parametrize(
    "rest",
    [
        {},
        {"text": 5},
        {"text": None, "parts": []},
        {"parts": ["x"]},
        {"text": "x", "metadata": []},
        {"type": "answer", "text": "x"},
        {"type": 5},
    ],
    ids=range(7),
)
async def test_what_is_wrong_with_one_request_is_told_to_it_alone(spawn: Any, rest: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with dial(port) as peer:
        await tell(peer, asked(1), {"type": "request", "id": 2, **rest})
        answer = await hear(peer)
        assert (answer["id"], answer["type"], answer["code"], answer["retryable"]) == (2, ERROR, "protocol", False)
        gate.open.set()
        assert (await hear(peer))["data"] == "answer 1"


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "hello",
        "[]",
        "null",
        "{}",
        '{"type": "request", "text": "x"}',
        '{"type": "request", "id": "1", "text": "x"}',
        '{"type": "request", "id": true, "text": "x"}',
        '{"type": "request", "id": 0, "text": "x"}',
        '{"type": "request", "id": 1.0, "text": "x"}',
        '{"type": "request", "id": 9007199254740992, "text": "x"}',
        '{"type": "request", "id": 1, "text": NaN}',
        '{"type": "request", "id": 1, "text": "x", "text": "y"}',
        '{"type": "request", "id": 1, "text": "\\ud800"}',
        "[" * 100_000,
        b'{"type": "request", "id": 1, "text": "x"}',
        b"\x00\xff",
    ],
    ids=range(18),
)
async def test_what_cannot_be_answered_closes_the_connection(spawn: Any, frame: Any):
    port, backend = await spawn(Echo())
    async with dial(port) as peer:
        await tell(peer, frame)
        code, reason = await close_of(peer)
        assert code == 1002
        assert reason
    assert await backend.health_check("w")


async def test_an_id_that_is_under_way_is_not_given_twice(spawn: Any):
    port, _ = await spawn(Gate())
    async with dial(port) as peer:
        await tell(peer, asked(1), asked(1))
        assert await close_of(peer) == (1002, "request 1 is already in flight")


async def test_text_that_is_no_text_closes_the_connection(spawn: Any):
    port, _ = await spawn(Echo())
    async with dial(port) as peer:
        await peer.send(b'{"type": "request", "id": 1, "text": "\xff"}', text=True)
        assert (await close_of(peer))[0] == 1007


async def test_a_message_in_fragments_is_one_frame(spawn: Any):
    port, _ = await spawn(Echo())
    async with dial(port) as peer:
        await peer.send(iter(['{"type": "request", "id": 1,', ' "text": "a', ' b"}']))
        assert (await hear(peer))["data"] == "a b"


# --- answers ---


@pytest.mark.parametrize("event", [message("x", metadata={"x": object()}), message("\ud800")], ids=["metadata", "text"])
async def test_an_answer_that_json_cannot_hold_is_the_agents_failure(spawn: Any, event: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({**event, "type": DELTA} if context.streaming else event)
        await queue.enqueue_event(event)

    _, backend = await spawn(Agent(behave))
    with pytest.raises(AgentFailedError, match="cannot be sent as JSON"):
        await backend.send("c", "w", {"text": "q"})
    with pytest.raises(AgentFailedError, match="cannot be sent as JSON"):
        [event async for event in backend.stream("c", "w", {"text": "q"})]


async def test_an_answer_over_the_limit_costs_nobody_else_the_connection(spawn: Any):
    gate = Gate()

    async def behave(context: Any, queue: Any) -> None:
        if context.get_user_input() == "large":
            await queue.enqueue_event(message("字" * 6_000_000))
        else:
            await gate.execute(context, queue)

    _, backend = await spawn(Agent(behave))
    other = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
    await gate.started.wait()
    with pytest.raises(ProtocolError, match="over the limit of 16777216 bytes") as caught:
        await backend.send("c", "w", {"text": "large"})
    assert caught.value.retryable is True
    gate.open.set()
    assert (await other)["text"] == "answer 1"


async def test_a_question_over_the_limit_is_not_even_sent(spawn: Any):
    gate = Gate()
    port, backend = await spawn(gate, limits=HostLimits(body_bytes=100_000, stop_s=1))
    other = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
    await gate.started.wait()
    for size in (100_000, 3_000_000):
        with pytest.raises(ProtocolError, match="over the limit of 100000 bytes") as caught:
            await backend.send("c", "w", {"text": "x" * size})
        assert caught.value.retryable is False
    gate.open.set()
    assert (await other)["text"] == "answer 1"
    assert (await backend.send("c", "w", {"text": "x" * 99_900}))["text"]
    async with dial(port) as peer:
        assert peer.response.headers[LIMIT_HEADER] == "100000"
        await tell(peer, asked(1, "x" * 100_000))
        assert (await close_of(peer))[0] == 1009


# --- the handshake ---


def upgrade(*headers: str, path: str = "/", host: str = "localhost", subprotocol: str | None = SUBPROTOCOL) -> bytes:
    fields = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
        *headers,
    ]
    return get(path, *fields, host=host)


async def test_the_legitimate_twin_is_let_in(spawn: Any):
    port, _ = await spawn(Echo())
    for host in ("localhost", f"127.0.0.1:{port}"):
        async with connection(port) as peer:
            await peer.write(upgrade(host=host))
            answer = await peer.head()
            assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, SUBPROTOCOL)
            assert "sec-websocket-extensions" not in answer.headers
            assert "server" not in answer.headers
            assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (get("/"), 426, "protocol"),
        (upgrade(path="/other"), 404, "config"),
        (upgrade(subprotocol=None), 400, "protocol"),
        (upgrade(subprotocol="chat, streaming-queue.v0"), 400, "protocol"),
        (upgrade(host="evil.example"), 421, "config"),
        (upgrade("Origin: http://evil.example"), 403, "auth"),
        (upgrade("Origin: null"), 403, "auth"),
        (upgrade("Host: localhost"), 400, "protocol"),
        (upgrade("Origin: http://localhost", "Origin: http://evil.example"), 400, "protocol"),
        (upgrade("Authorization: Bearer a", "Authorization: Bearer b"), 400, "protocol"),
        (upgrade("Sec-WebSocket-Version: 12").replace(b"Sec-WebSocket-Version: 13\r\n", b""), 400, "protocol"),
        (upgrade().replace(b"Host: localhost\r\n", b""), 400, "protocol"),
        (upgrade().replace(b"GET", b"HEAD"), 405, "protocol"),
        (get("/nothing"), 404, "config"),
    ],
    ids=range(14),
)
async def test_refusals_are_json(spawn: Any, request_: bytes, status: int, code: str):
    port, backend = await spawn(Echo())
    answer = await ask(port, request_)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["date"].endswith("GMT")
    assert await backend.health_check("w")


@pytest.mark.parametrize("origin", ["http://localhost", "http://queue.example", "https://queue.example:8443"])
async def test_pages_of_our_own_origin_are_welcome(spawn: Any, origin: str):
    port, _ = await spawn(Echo(), allowed_hosts=("queue.example",))
    async with connection(port) as peer:
        await peer.write(upgrade(f"Origin: {origin}"))
        assert (await peer.head()).status == 101


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", post("/", b"{}")])
async def test_what_is_no_handshake_is_hung_up_on(spawn: Any, garbage: bytes):
    port, backend = await spawn(Echo())
    async with connection(port) as peer:
        await peer.write(garbage)
        assert await peer.closed()
    assert await backend.health_check("w")


async def test_a_flood_of_headers_is_refused(spawn: Any):
    port, _ = await spawn(Echo())
    assert (await ask(port, upgrade("X: " + "x" * 20_000))).status == 431
    assert (await ask(port, upgrade(*(f"X-{number}: x" for number in range(300))))).status == 431


async def test_whoever_is_slow_with_the_handshake_is_cut_off(spawn: Any):
    port, backend = await spawn(Echo(), limits=HostLimits(body_deadline_s=0.2, stop_s=1))
    for beginning in (b"", b"GET / HTT", upgrade()[:-2]):
        async with connection(port) as peer:
            started = time.monotonic()
            await peer.write(beginning)
            assert await peer.closed()
            assert 0.15 < time.monotonic() - started < 1
    assert await backend.health_check("w")


async def test_connections_are_limited(spawn: Any):
    port, backend = await spawn(Echo(), limits=HostLimits(connections=3, stop_s=1))
    peers = [await dial(port) for _ in range(3)]
    with pytest.raises(InvalidStatus) as caught:
        await dial(port)
    assert caught.value.response.status_code == 503
    assert caught.value.response.headers["Retry-After"] == "1"
    for peer in peers:
        await peer.close()
    assert await backend.health_check("w")


async def test_requests_under_way_are_limited(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate, limits=HostLimits(connections=3, stop_s=1))
    async with dial(port) as peer:
        await tell(peer, *(asked(number) for number in range(1, 4)))
        await soon(lambda: gate.runs == 3)
        await tell(peer, asked(4))
        answer = await hear(peer)
        assert (answer["id"], answer["code"], answer["retry_after_s"]) == (4, "rate_limited", 1.0)
        gate.open.set()
        assert {(await hear(peer))["id"] for _ in range(3)} == {1, 2, 3}


# --- floods and peers that do not read ---


async def test_a_flood_of_pings_is_cut_off(spawn: Any):
    port, backend = await spawn(Echo())
    async with dial(port, ping_interval=None) as peer:
        for _ in range(ws_connection.MAX_PINGS):
            await (await peer.ping())
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(5):
                while True:
                    await (await peer.ping())
    assert await backend.health_check("w")


async def test_pings_at_leisure_are_answered(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ws_connection, "TICK_S", 0.02)
    monkeypatch.setattr(ws_connection, "MAX_PINGS", 5)
    port, _ = await spawn(Echo())
    async with dial(port, ping_interval=None) as peer:
        for _ in range(12):
            await (await peer.ping())
            await asyncio.sleep(0.01)


async def test_a_caller_that_does_not_read_is_dropped_and_holds_up_nobody(
    spawn: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(ws_connection, "TICK_S", 0.05)
    monkeypatch.setattr(ws_connection, "STALL_S", 0.4)
    ended = asyncio.Event()

    async def behave(context: Any, queue: Any) -> None:
        try:
            while True:
                await queue.enqueue_event({"type": DELTA, "data": "x" * 100_000})
                await asyncio.sleep(0)
        finally:
            ended.set()

    port, backend = await spawn(Agent(behave))
    async with dial(port, max_queue=1) as peer:
        await tell(peer, asked(1, stream=True))
        await hear(peer)
        async with asyncio.timeout(5):
            while not ended.is_set():
                assert await backend.health_check("w")
                await asyncio.sleep(0.05)
        peer.transport.abort()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_caller_that_vanished_is_noticed(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ws_connection, "TICK_S", 0.05)
    monkeypatch.setattr(ws_connection, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(ws_connection, "DEAD_AFTER_S", 1.0)
    gate = Gate()
    port, _ = await spawn(gate)
    async with dial(port) as quiet, connection(port) as hole:
        await hole.write(upgrade())
        await hole.head()
        started = time.monotonic()
        while await hole.reader.read(1000):
            assert time.monotonic() - started < 5
        await tell(quiet, {"type": "ping", "id": 1})
        assert (await hear(quiet))["status"] == "ok"
    (agent,) = spawn.agents
    await soon(lambda: not agent._connections)


async def test_a_caller_that_lets_a_closed_connection_stand_is_cut_off(spawn: Any):
    port, _ = await spawn(Echo())
    async with connection(port) as peer:
        await peer.write(upgrade())
        await peer.head()
        await peer.write(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
        started = time.monotonic()
        assert await peer.reader.read() == b"\x88\x02\x03\xe8"
        (agent,) = spawn.agents
        await soon(lambda: not agent._connections)
        assert time.monotonic() - started < 1.5


# --- identity, options, stopping ---


class Who:
    async def execute(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event(message(str(context.principal)))


async def only_ada(credential: str) -> str | None:
    return "ada" if credential == "s3cret" else None


async def test_a_credential_makes_a_principal(spawn: Any):
    port, backend = await spawn(Who(), EndpointOptions(credential="s3cret"), authenticator=only_ada)
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "ada"
    assert await backend.health_check("w")
    assert (await ask(port, get("/health"))).status == 200


@pytest.mark.parametrize("options", [None, EndpointOptions(credential="wrong")])
async def test_a_wrong_credential_is_an_auth_error(spawn: Any, options: EndpointOptions | None):
    port, backend = await spawn(Who(), options, authenticator=only_ada)
    with pytest.raises(AuthError, match="credential"):
        await backend.send("c", "w", {"text": "q"})
    assert await backend.health_check("w")
    answer = await ask(port, upgrade(*([f"Authorization: Bearer {options.credential}"] if options else [])))
    assert (answer.status, answer.code) == (401, "auth")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_nobody_in_particular_has_no_name(spawn: Any):
    _, backend = await spawn(Who())
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "None"


async def test_a_port_in_use_and_a_public_address(spawn: Any):
    port, backend = await spawn(Echo())
    with pytest.raises(ConnectError, match=f"agent 'v': cannot listen on 127.0.0.1:{port}: the port is in use"):
        await backend.spawn_local_agent("v", "127.0.0.1", port, Echo())
    with pytest.raises(ConfigError, match=r"refusing to listen on 0\.0\.0\.0"):
        await backend.spawn_local_agent("v", "0.0.0.0", 0, Echo())


async def test_a_public_address_may_be_allowed(spawn: Any):
    port, backend = await spawn(Echo(), host="0.0.0.0", allow_public=True)
    assert backend.endpoints["w"] == f"ws://127.0.0.1:{port}"
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"


async def test_it_comes_back_on_the_same_port(spawn: Any):
    port, backend = await spawn(Echo())
    for number in range(3):
        assert (await backend.send("c", "w", {"text": str(number)}))["text"] == str(number)
        await spawn.agents[-1].stop()
        spawn.agents.append(await backend.spawn_local_agent("w", "127.0.0.1", port, Echo()))


async def test_stopping_says_goodbye_and_is_bounded(spawn: Any):
    stubborn = Stubborn()
    port, _ = await spawn(stubborn)
    (agent,) = spawn.agents
    async with dial(port) as peer, connection(port) as deaf, connection(port) as silent:
        await deaf.write(upgrade())
        await deaf.head()
        await tell(peer, asked(1))
        await stubborn.started.wait()
        started = time.monotonic()
        stopping = asyncio.gather(agent.stop(), agent.stop())
        answer = await hear(peer)
        assert (answer["code"], answer["retryable"]) == ("connect", True)
        assert await close_of(peer) == (1001, "the agent was stopped")
        assert time.monotonic() - started < 0.5
        await stopping
        assert time.monotonic() - started < LIMITS.stop_s + 0.3
        assert await silent.closed()
    stubborn.release.set()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_hosted_agent_reaches_its_neighbours(spawn: Any):
    class Relay:
        async def execute(self, context: Any, event_queue: Any) -> None:
            reply = await context.call("n", {"text": context.get_user_input()})
            await event_queue.enqueue_event(message(reply["text"]))

    async def route(src_id: str, dst_id: str, payload: Any) -> Any:
        return {"raw": None, "text": f"{src_id}>{dst_id} {payload['text']}"}

    _, backend = await spawn(Relay())
    backend.route = route
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "w>n q"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command.split(), *more], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


async def test_tls_and_a_stranger_certificate(spawn: Any, certificate: Path):
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await asyncio.to_thread(server_side.load_cert_chain, certificate)
    trust = await asyncio.to_thread(ssl.create_default_context, cafile=certificate)
    _, backend = await spawn(Echo(), EndpointOptions(tls=trust), "localhost", tls=server_side)
    address = backend.endpoints["w"]
    assert address.startswith("wss://localhost:")
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"
    await backend.register_endpoint("stranger", address)
    with pytest.raises(ConnectError, match=f"{address}: the TLS certificate is not trusted.*tls option") as caught:
        await backend.send("c", "stranger", {"text": "q"})
    assert caught.value.retryable is False
