"""Peers that do not keep to the contract, by malice or by accident."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import pytest
from unit.comm.agents import LIMITS, Agent, Gate, soon
from websockets.asyncio.server import ServerConnection, serve

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES
from streaming_queue.comm.base import EndpointOptions, HostOptions
from streaming_queue.comm.client import exchange
from streaming_queue.comm.context import listening
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    BackendClosedError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
)
from streaming_queue.messages import DELTA, ERROR, MESSAGE
from streaming_queue.protocol_backend.ws import connection as ws_connection
from streaming_queue.protocol_backend.ws import peer as ws_peer
from streaming_queue.protocol_backend.ws.comm import WsCommBackend
from streaming_queue.protocol_backend.ws.frames import SUBPROTOCOL

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

Behave = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture
async def backend():
    options = EndpointOptions(credential="s3cret", headers={"X-Team": "blue"})
    backend = WsCommBackend(options={"w": options}, host_options=HostOptions(limits=LIMITS))
    yield backend
    await backend.close()


class Sockets:
    """A TCP server; `serve_one(reader, writer)` is one connection's whole life."""

    def __init__(self, serve_one: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.heads: list[bytes] = []
        self._serve_one = serve_one
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await self._serve_one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def says(response: bytes, end: str = "close") -> Sockets:
    """Answers every handshake with `response`, then closes, resets or keeps the connection."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        await writer.drain()
        if end == "reset":
            await asyncio.sleep(0.02)
            writer.transport.abort()
        elif end == "keep":
            await reader.read()

    return Sockets(serve_one)


def upgraded(after: bytes = b"", end: str = "keep", headers: str = "") -> Sockets:
    """Does the handshake as it should, then sends the bytes `after` once a first frame came."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = re.search(rb"(?i)sec-websocket-key: (.*)\r\n", sockets.heads[-1])
        assert key is not None
        digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: streaming-queue.v1\r\nSec-WebSocket-Accept: %s\r\n%s\r\n"
            % (base64.b64encode(digest), headers.encode())
        )
        await reader.read(10)
        writer.write(after)
        await writer.drain()
        if end == "reset":
            writer.transport.abort()
        elif end == "keep":
            while await reader.read(1000):
                pass
        elif end == "stand":
            await asyncio.Event().wait()

    sockets = Sockets(serve_one)
    return sockets


def text_frame(document: Any) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    assert len(body) < 126
    return bytes([0x81, len(body)]) + body


@asynccontextmanager
async def worker(behave: Behave, **options: Any) -> AsyncIterator[str]:
    """A WebSocket server made with the bare library; its address."""
    options = {"subprotocols": [SUBPROTOCOL], "compression": None, "close_timeout": 0.2, "max_size": None, **options}
    async with serve(behave, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def frame_of(peer: ServerConnection) -> Any:
    return json.loads(await peer.recv())


def event(number: int, text: str = "fine", kind: str = MESSAGE) -> str:
    return json.dumps({"type": kind, "id": number, "data": text})


async def good(peer: ServerConnection) -> None:
    async for data in peer:
        frame = json.loads(data)
        if frame["type"] == "ping":
            await peer.send(json.dumps({"type": "pong", "id": frame["id"], "status": "ok"}))
        elif frame["type"] == "request":
            await peer.send(event(frame["id"], frame["text"]))


async def note(frames: list[Any], peer: ServerConnection) -> None:
    """Answers nothing."""
    async for data in peer:
        frames.append(json.loads(data))  # noqa: PERF401 - each is to be seen when it comes


async def send(backend: WsCommBackend, address: str, text: str = "q", **metadata: Any) -> Any:
    await backend.register_endpoint("w", address)
    async with asyncio.timeout(5):
        return await backend.send("c", "w", {"text": text, "metadata": metadata})


async def stream(backend: WsCommBackend, address: str, **metadata: Any) -> list[Any]:
    await backend.register_endpoint("w", address)
    async with asyncio.timeout(5):
        return [event async for event in backend.stream("c", "w", {"text": "q", "metadata": metadata})]


async def test_the_legitimate_twin_is_served_over_one_connection(backend: WsCommBackend):
    connections = 0

    async def behave(peer: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await good(peer)

    async with worker(behave) as address:
        await backend.register_endpoint("w", address)
        texts = [str(number) for number in range(100)]
        replies = await asyncio.gather(*(backend.send("c", "w", {"text": text}) for text in texts))
        assert [reply["text"] for reply in replies] == texts
        assert await stream(backend, address) == [{"type": MESSAGE, "data": "q"}]
        assert await backend.health_check("w")
    assert connections == 1


async def test_a_handshake_and_a_request_carry_what_they_should(backend: WsCommBackend):
    frames: list[Any] = []

    async def behave(peer: ServerConnection) -> None:
        frames.append(peer.request.headers)
        frames.append(await frame_of(peer))
        await peer.send(event(frames[-1]["id"]))
        await peer.wait_closed()

    async with worker(behave) as address:
        await send(backend, address, mine=1, question_id="问", attempt=2)
    headers, frame = frames
    assert (headers["Authorization"], headers["X-Team"]) == ("Bearer s3cret", "blue")
    assert headers["Sec-WebSocket-Protocol"] == SUBPROTOCOL
    assert "Sec-WebSocket-Extensions" not in headers
    assert "User-Agent" not in headers
    metadata = {"mine": 1, "question_id": "问", "attempt": 2}
    assert frame == {"type": "request", "id": 1, "text": "q", "metadata": metadata}


async def test_the_log_keeps_secrets_and_questions(backend: WsCommBackend, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with worker(good, logger=logging.getLogger("theirs")) as address:
        await send(backend, address, "a private question")
    for record in caplog.records:
        if record.name != "theirs":
            assert "s3cret" not in record.getMessage()
            assert "private" not in record.getMessage()


async def test_a_path_is_kept(backend: WsCommBackend):
    async with says(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") as peer:
        with pytest.raises(RemoteError, match="answered 404"):
            await send(backend, f"{peer.address}/agents/one/")
        assert peer.heads[0].startswith(b"GET /agents/one HTTP/1.1\r\n")


# --- no connection ---


@pytest.mark.parametrize("address", ["ws://127.0.0.1:1", "ws://no.such.host.invalid:80"])
async def test_nobody_there(backend: WsCommBackend, address: str):
    await backend.register_endpoint("w", address)
    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(ConnectError, match=f"^{address}: cannot connect") as caught:
            await backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}})
        assert caught.value.retryable is True
    with pytest.raises(ConnectError):
        await backend.connect("c", "w")
    assert not await backend.health_check("w")
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize(
    "response", [b"", b"HTTP/1.1 101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"]
)
async def test_a_handshake_that_breaks_off(backend: WsCommBackend, response: bytes, end: str):
    async with says(response, end) as peer:
        with pytest.raises(ConnectError, match=f"^{peer.address}: the connection broke during the handshake"):
            await send(backend, peer.address, idempotency_key="k")
        assert len(peer.heads) == 1


async def test_a_handshake_that_is_never_answered(backend: WsCommBackend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ws_peer, "CONNECT_TIMEOUT_S", 0.2)
    async with says(b"", "keep") as peer:
        await backend.register_endpoint("w", peer.address)
        sending = [asyncio.create_task(backend.send("c", "w", {"text": "q"})) for _ in range(20)]
        done, _ = await asyncio.wait(sending, timeout=2)
        assert len(done) == 20
        for task in done:
            with pytest.raises(ConnectError, match=f"^{peer.address}: no connection within"):
                await task
        assert len(peer.heads) == 1


HTML = b"<html>\x1b[31mIt works!</html>"


def http(status: str, body: bytes = HTML, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("response", "error", "retryable"),
    [
        (http("200 OK"), ProtocolError, True),
        (http("204 No Content", b""), ProtocolError, True),
        (http("400 Bad Request"), RemoteError, False),
        (http("401 Unauthorized"), AuthError, False),
        (http("403 Forbidden"), AuthError, False),
        (http("404 Not Found"), RemoteError, False),
        (http("426 Upgrade Required", b'{"error": "no"}'), RemoteError, False),
        (http("429 Too Many Requests"), RateLimitedError, True),
        (http("500 Internal Server Error"), RemoteError, True),
        (http("503 Service Unavailable", b'{"error": {"code": 7}}'), RemoteError, True),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ProtocolError, True),
        (http("101 Switching Protocols", b"", "Upgrade: websocket", "Connection: Upgrade"), ProtocolError, True),
        (
            http(
                "101 Switching Protocols",
                b"",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            ),
            ProtocolError,
            True,
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ProtocolError, True),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", ProtocolError, True),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 20_000 + b"\r\n\r\n", ProtocolError, True),
    ],
    ids=range(16),
)
async def test_somebody_who_speaks_no_websocket(
    backend: WsCommBackend, response: bytes, error: type[Exception], retryable: bool
):
    async with says(response) as peer:
        for ask in (send, stream):
            with pytest.raises(error, match=f"^{peer.address}: ") as caught:
                await ask(backend, peer.address)
            assert type(caught.value) is error
            assert caught.value.retryable is retryable
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 1000


async def test_a_refusal_in_our_words_comes_back_as_itself(backend: WsCommBackend):
    told = {"type": "agent_error", "code": "rate_limited", "message": "slow", "retryable": True, "retry_after_s": None}
    async with says(http("503 Busy", json.dumps({"error": told}).encode(), "Retry-After: 4")) as peer:
        with pytest.raises(RateLimitedError, match="slow") as caught:
            await send(backend, peer.address)
    assert caught.value.retry_after_s == 4


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_redirects_are_not_followed_and_the_credential_stays(backend: WsCommBackend, status: str):
    async with says(b"") as thief, says(http(status, HTML, f"Location: {thief.address}")) as peer:
        with pytest.raises(RemoteError, match="redirects are not followed") as caught:
            await send(backend, peer.address)
        assert caught.value.retryable is False
        assert not await backend.health_check("w")
        assert thief.heads == []


async def test_proxies_of_the_environment_are_not_used(backend: WsCommBackend, monkeypatch: pytest.MonkeyPatch):
    async with says(b"") as thief, worker(good) as address:
        for name in ("HTTP_PROXY", "http_proxy", "ws_proxy", "WS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, thief.address.replace("ws:", "http:"))
        await send(backend, address)
        assert thief.heads == []


async def test_a_credential_is_its_own_agents(backend: WsCommBackend):
    async with says(b"") as peer:
        await backend.register_endpoint("v", peer.address)
        with pytest.raises(ConnectError):
            await backend.send("c", "v", {"text": "q"})
        assert b"s3cret" not in peer.heads[0]


@pytest.mark.parametrize("subprotocols", [None, ["chat"]])
async def test_another_subprotocol_is_refused(backend: WsCommBackend, subprotocols: Any):
    closed: list[Any] = []

    async def behave(peer: ServerConnection) -> None:
        await peer.wait_closed()
        closed.append(peer.close_code)

    choose = None if subprotocols is None else lambda peer, offered: "chat"
    async with worker(behave, subprotocols=subprotocols, select_subprotocol=choose) as address:
        with pytest.raises(ProtocolError, match=f"^{address}: "):
            await send(backend, address)
    assert closed in ([1002], [1006])


async def test_an_extension_that_was_not_asked_for_is_refused(backend: WsCommBackend):
    async with upgraded(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n") as peer:
        with pytest.raises(ProtocolError, match="no extensions supported"):
            await send(backend, peer.address)


# --- a connection that ends ---


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize(
    "after", [b"", b"\x81", b'\x81\x7e\x01\x00{"type":', text_frame({"type": "heartbeat", "ids": [1]})]
)
async def test_a_connection_that_breaks_before_the_answer(backend: WsCommBackend, after: bytes, end: str):
    async with upgraded(after, end) as peer:
        for ask in (send, stream):
            with pytest.raises(ConnectError, match=f"^{peer.address}: the connection broke") as caught:
                await ask(backend, peer.address)
            assert caught.value.retryable is True
            assert type(caught.value) is ConnectError


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1000, ConnectError),
        (1001, ConnectError),
        (1002, ProtocolError),
        (1003, ProtocolError),
        (1007, ProtocolError),
        (1008, ConnectError),
        (1009, ProtocolError),
        (1011, ConnectError),
        (1012, ConnectError),
        (1013, ConnectError),
        (3000, AuthError),
        (3003, AuthError),
        (4999, ConnectError),
    ],
)
async def test_close_codes(backend: WsCommBackend, code: int, error: type[Exception]):
    async def behave(peer: ServerConnection) -> None:
        await peer.recv()
        await peer.close(code, "be\x1bcause 因")

    async with worker(behave) as address:
        for ask in (send, stream):
            with pytest.raises(
                error, match=rf"^{address}: closed the connection with code {code}: .*be.*cause"
            ) as caught:
                await ask(backend, address)
            assert type(caught.value) is error
            assert str(caught.value).isprintable()


async def test_a_closed_connection_that_is_left_standing_is_cut_off(backend: WsCommBackend):
    async with upgraded(b"\x88\x02\x03\xe8", "stand") as peer:
        started = time.monotonic()
        with pytest.raises(ConnectError, match="closed the connection with code 1000"):
            await send(backend, peer.address)
        assert time.monotonic() - started < 1.5


async def test_a_peer_that_is_dead_is_noticed(backend: WsCommBackend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ws_connection, "TICK_S", 0.05)
    monkeypatch.setattr(ws_connection, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(ws_connection, "DEAD_AFTER_S", 0.4)
    async with upgraded(b"", "keep") as peer:
        started = time.monotonic()
        with pytest.raises(ConnectError, match=r"no sign of life for 0\.4 s"):
            await send(backend, peer.address)
        assert 0.4 <= time.monotonic() - started < 3


async def test_a_peer_that_only_answers_pings_is_not_dead(backend: WsCommBackend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ws_connection, "TICK_S", 0.05)
    monkeypatch.setattr(ws_connection, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(ws_connection, "DEAD_AFTER_S", 1.0)

    async def behave(peer: ServerConnection) -> None:
        frame = await frame_of(peer)
        await asyncio.sleep(1.5)
        await peer.send(event(frame["id"]))
        await peer.wait_closed()

    async with worker(behave) as address:
        assert (await send(backend, address))["text"] == "fine"


async def test_a_peer_that_does_not_read_is_given_up(backend: WsCommBackend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ws_connection, "TICK_S", 0.05)
    monkeypatch.setattr(ws_connection, "STALL_S", 0.3)

    async with upgraded(end="stand") as peer:
        await backend.register_endpoint("w", peer.address)
        asked = [asyncio.create_task(backend.send("c", "w", {"text": "x" * 900_000})) for _ in range(20)]
        done, _ = await asyncio.wait(asked, timeout=4)
        assert len(done) == 20
        for task in done:
            with pytest.raises(ConnectError, match="the peer did not read"):
                await task


async def test_closing_is_bounded_even_if_the_peer_does_not_read(backend: WsCommBackend):
    async with upgraded(end="stand") as peer:
        await backend.register_endpoint("w", peer.address)
        asked = [asyncio.create_task(backend.send("c", "w", {"text": "x" * 900_000})) for _ in range(20)]
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await backend.close()
        for task in asked:
            with pytest.raises(BackendClosedError):
                await task
        assert time.monotonic() - started < 1.5


async def test_a_host_that_floods_us_with_pings_is_given_up(backend: WsCommBackend):
    async with upgraded(b"\x89\x00" * 10_000) as peer:
        with pytest.raises(ConnectError, match="we closed the connection: too many pings"):
            await send(backend, peer.address)


# --- coming back ---


@pytest.mark.parametrize("metadata", [{}, {"idempotency_key": "k"}])
async def test_a_broken_connection_is_made_anew_once_and_only_with_a_key(backend: WsCommBackend, metadata: Any):
    async with upgraded(b"", "reset") as peer:
        for ask in (send, stream):
            peer.heads.clear()
            with pytest.raises(ConnectError):
                await ask(backend, peer.address, **metadata)
            assert len(peer.heads) == 1 + len(metadata)


async def test_an_agents_own_word_is_not_asked_for_twice(backend: WsCommBackend):
    told = {"type": ERROR, "id": 1, "code": "connect", "message": "stopped"}
    async with upgraded(text_frame(told)) as peer:
        with pytest.raises(ConnectError, match="stopped"):
            await send(backend, peer.address, idempotency_key="k")
        assert len(peer.heads) == 1


class Fragile:
    """A way to an agent, whose connections can be broken."""

    def __init__(self, address: str) -> None:
        self._port = int(address.rpartition(":")[2])
        self._writers: list[asyncio.StreamWriter] = []
        self.sockets = Sockets(self._forward)

    @property
    def connections(self) -> int:
        return len(self._writers)

    def break_last(self) -> None:
        self._writers[-1].transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._port)
        upstream.write(self.sockets.heads[-1])
        self._writers.append(writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, upstream))
                group.create_task(self._pump(upstream_reader, writer))
        finally:
            upstream.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_our_client_comes_back_to_the_work_under_way(backend: WsCommBackend):
    gate = Gate()
    handle = await backend.spawn_local_agent("host", "127.0.0.1", 0, gate)
    way = Fragile(handle.base_url)
    async with way.sockets as proxy:
        await backend.register_endpoint("w", proxy.address)
        payloads = [{"text": "q", "metadata": {"idempotency_key": "k"}}, {"text": "q", "metadata": {}}]
        keyed, plain = [asyncio.create_task(backend.send("c", "w", payload)) for payload in payloads]
        await soon(lambda: gate.runs == 2)
        way.break_last()
        with pytest.raises(ConnectError):
            await plain
        await soon(lambda: way.connections == 2)
        await asyncio.sleep(LIMITS.disconnect_grace_s + 0.1)
        gate.open.set()
        assert (await keyed)["text"].startswith("answer")
        assert (gate.runs, gate.cancelled) == (2, 1)
        await backend.close()


async def test_a_stream_comes_back_too_and_its_reader_is_told_what_is_new(
    backend: WsCommBackend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exchange, "HELD_S", 0.05)
    steps = [asyncio.Event() for _ in range(4)]
    runs = 0

    async def behave(context: Any, queue: Any) -> None:
        nonlocal runs
        runs += 1
        for number, step in enumerate(steps):
            await queue.enqueue_event({"type": DELTA, "data": f"{number},"})
            await step.wait()

    handle = await backend.spawn_local_agent("host", "127.0.0.1", 0, Agent(behave))
    way = Fragile(handle.base_url)
    async with way.sockets as proxy:
        await backend.register_endpoint("w", proxy.address)
        events = backend.stream("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}})
        told = []
        async with asyncio.timeout(5):
            async for event in events:
                told.append(event["data"])
                if len(told) <= len(steps):
                    await asyncio.sleep(0.1)
                    way.break_last()
                    steps[len(told) - 1].set()
        assert told == ["0,", "1,", "2,", "3,", "0,1,2,3,"]
        assert (runs, way.connections) == (1, 5)
        await backend.close()


async def test_the_next_message_finds_a_peer_that_came_back(backend: WsCommBackend):
    async with worker(good) as address:
        assert (await send(backend, address))["text"] == "q"
    with pytest.raises(ConnectError):
        await send(backend, address)
    port = int(address.rpartition(":")[2])
    async with serve(good, "127.0.0.1", port, subprotocols=[SUBPROTOCOL], close_timeout=0.2):
        assert (await send(backend, address))["text"] == "q"


# --- frames that are none ---


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "hello \x1b[31m",
        "[]",
        '"fine"',
        "null",
        "{}",
        '{"type": "agent_text_message", "data": "x"}',
        '{"type": "agent_text_message", "id": "1", "data": "x"}',
        '{"type": "agent_text_message", "id": true, "data": "x"}',
        '{"type": "agent_text_message", "id": 99, "data": "x"}',
        '{"type": "agent_text_message", "id": -1, "data": "x"}',
        '{"type": "agent_text_message", "id": NaN, "data": "x"}',
        '{"type": "agent_error", "message": "x"}',
        "[" * 50_000,
        b'{"type": "agent_text_message", "id": 1, "data": "x"}',
    ],
    ids=range(15),
)
async def test_a_frame_that_belongs_to_nobody_is_the_end(backend: WsCommBackend, frame: Any):
    closed: list[Any] = []
    requests = 0

    async def behave(peer: ServerConnection) -> None:
        nonlocal requests
        await peer.recv()
        requests += 1
        await peer.send(frame)
        await peer.wait_closed()
        closed.append(peer.close_code)

    async with worker(behave) as address:
        for ask in (send, stream):
            with pytest.raises(ProtocolError, match=f"^{address}: ") as caught:
                await ask(backend, address, idempotency_key="k")
            assert caught.value.retryable is True
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 1000
    assert requests == 2
    assert closed == [1002, 1002]


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\x83\x00",  # an opcode that is not defined
        b"\xc1\x00",  # a reserved bit
        b"\x81\x80\x00\x00\x00\x00",  # masked
        b"\x80\x00",  # a continuation of nothing
        b"\x89\x7e\x00\xff" + b"x" * 255,  # a control frame that is too long
        b"\x81\x01\xff",  # not UTF-8
        b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100,
    ],
    ids=range(7),
)
async def test_bytes_that_are_no_frame(backend: WsCommBackend, bytes_: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ws_connection, "CLOSE_TIMEOUT_S", 0.1)
    async with upgraded(bytes_) as peer:
        for ask in (send, stream):
            with pytest.raises(ProtocolError, match=f"^{peer.address}: broke the protocol") as caught:
                await ask(backend, peer.address, idempotency_key="k")
            assert str(caught.value).isprintable()
        assert len(peer.heads) == 2


async def test_an_answer_over_the_cap_is_not_read(backend: WsCommBackend):
    async def behave(peer: ServerConnection) -> None:
        frame = await frame_of(peer)
        await peer.send(event(frame["id"], "x" * MAX_EVENT_BYTES))
        await peer.wait_closed()

    async with worker(behave) as address:
        for ask in (send, stream):
            with pytest.raises(ProtocolError, match=rf"broke the protocol: .*{MAX_EVENT_BYTES}") as caught:
                await ask(backend, address)
            assert caught.value.retryable is True


async def test_a_frame_over_the_cap_is_no_verdict_on_those_beside_it(backend: WsCommBackend):
    async def behave(peer: ServerConnection) -> None:
        frame = await frame_of(peer)
        await frame_of(peer)
        await peer.send(event(frame["id"], "x" * MAX_EVENT_BYTES))
        await peer.wait_closed()

    async with worker(behave) as address:
        await backend.register_endpoint("w", address)
        asked = [backend.send("c", "w", {"text": "q"}) for _ in range(2)]
        ends: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        assert [(type(end), end.retryable) for end in ends] == [(ProtocolError, True)] * 2


async def test_a_stream_over_the_cap_is_cancelled_and_costs_nobody_else(backend: WsCommBackend):
    cancelled = asyncio.Event()

    async def behave(peer: ServerConnection) -> None:
        first, second = await frame_of(peer), await frame_of(peer)
        for _ in range(17):
            await peer.send(event(first["id"], "x" * 1_000_000, DELTA))
        assert await frame_of(peer) == {"type": "cancel", "id": first["id"]}
        cancelled.set()
        await peer.send(event(second["id"]))
        await peer.wait_closed()

    async with worker(behave) as address:
        await backend.register_endpoint("w", address)
        streaming = asyncio.create_task(stream(backend, address))
        await asyncio.sleep(0)
        other = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
        with pytest.raises(
            ProtocolError, match=f"^{address}: the answer is over the limit of 16777216 bytes"
        ) as caught:
            await streaming
        assert caught.value.retryable is True
        assert (await other)["text"] == "fine"
        assert cancelled.is_set()


@pytest.mark.parametrize(
    "rest",
    [
        {},
        {"type": "agent_song", "data": "x"},
        {"type": MESSAGE},
        {"type": MESSAGE, "data": 5},
        {"type": MESSAGE, "data": "x", "metadata": ["x"]},
        {"type": DELTA, "data": None},
        {"type": "pong", "status": "ok"},
    ],
    ids=range(7),
)
async def test_what_is_wrong_with_one_answer_costs_nobody_else(backend: WsCommBackend, rest: Any):
    async def behave(peer: ServerConnection) -> None:
        first, second = await frame_of(peer), await frame_of(peer)
        await peer.send(json.dumps({"id": first["id"], **rest}))
        if rest.get("type") != MESSAGE:
            assert await frame_of(peer) == {"type": "cancel", "id": first["id"]}
            await peer.send(json.dumps({"type": ERROR, "id": first["id"], "code": "agent_failed", "message": "x"}))
        await peer.send(event(second["id"]))
        await peer.wait_closed()

    async with worker(behave) as address:
        await backend.register_endpoint("w", address)
        bad, fine = [asyncio.create_task(backend.send("c", "w", {"text": text})) for text in ("bad", "fine")]
        with pytest.raises(ProtocolError, match=f"^{address}: a frame is not an event"):
            await bad
        assert (await fine)["text"] == "fine"


async def test_errors_come_back_as_their_class_and_strange_ones_as_the_remotes(backend: WsCommBackend):
    async def behave(peer: ServerConnection) -> None:
        for code, retry_after_s in (("rate_limited", 2.5), ("moon_phase", "soon"), (None, None)):
            frame = await frame_of(peer)
            told = {"type": ERROR, "id": frame["id"], "code": code, "message": "oh", "retry_after_s": retry_after_s}
            await peer.send(json.dumps(told))
        await peer.wait_closed()

    async with worker(behave) as address:
        for error, retry_after_s in ((RateLimitedError, 2.5), (RemoteError, None), (RemoteError, None)):
            with pytest.raises(error, match=f"^{address}: oh") as caught:
                await send(backend, address)
            assert type(caught.value) is error
            assert caught.value.retry_after_s == retry_after_s


# --- cancelling and waiting ---


async def test_a_peer_that_never_answers_is_left_by_the_callers_own_deadline(backend: WsCommBackend):
    frames: list[Any] = []
    behave = partial(note, frames)

    async with worker(behave) as address:
        await backend.register_endpoint("w", address)
        sending = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
        await soon(lambda: len(frames) == 1)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await sending
        assert 0.95 < time.monotonic() - started < 5
    assert [frame["type"] for frame in frames] == ["request", "cancel"]
    assert frames[1] == {"type": "cancel", "id": frames[0]["id"]}


async def test_who_is_cancelled_twice_does_not_wait(backend: WsCommBackend):
    frames: list[Any] = []
    behave = partial(note, frames)

    async with worker(behave) as address:
        await backend.register_endpoint("w", address)
        sending = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
        for count in (1, 2):
            await soon(lambda count=count: len(frames) == count)
            sending.cancel()
        started = time.monotonic()
        await asyncio.wait({sending})
        assert sending.cancelled()
        assert time.monotonic() - started < 0.3


async def test_no_cancel_is_sent_for_a_command(backend: WsCommBackend):
    frames: list[Any] = []
    behave = partial(note, frames)

    async with worker(behave) as address:
        sending = asyncio.create_task(send(backend, address, kind="command"))
        await soon(lambda: len(frames) == 1)
        sending.cancel()
        await asyncio.wait({sending})
        await backend.close()
    assert len(frames) == 1


async def test_an_answer_that_comes_too_late_is_passed_over(backend: WsCommBackend):
    asked = asyncio.Event()

    async def behave(peer: ServerConnection) -> None:
        late = await frame_of(peer)
        asked.set()
        frame = await frame_of(peer)
        for number in (late["id"], late["id"], frame["id"]):
            await peer.send(event(number, str(number)))
        await peer.wait_closed()

    async with worker(behave) as address:
        sending = asyncio.create_task(send(backend, address, "late", kind="command"))
        await asked.wait()
        sending.cancel()
        await asyncio.wait({sending})
        assert (await send(backend, address))["text"] == "2"


async def test_a_slow_taker_of_a_stream_holds_nobody_up(backend: WsCommBackend):
    async def behave(peer: ServerConnection) -> None:
        frame = await frame_of(peer)
        for number in range(3000):
            await peer.send(event(frame["id"], f"{number},", DELTA))
        await peer.send(event(frame["id"]))
        await good(peer)

    async with worker(behave) as address:
        await backend.register_endpoint("w", address)
        events = backend.stream("c", "w", {"text": "q"})
        assert (await anext(events))["data"] == "0,"
        async with asyncio.timeout(3):
            for number in range(20):
                assert (await backend.send("c", "w", {"text": str(number)}))["text"] == str(number)
        rest = [event["data"] async for event in events]
        assert rest == [*(f"{number}," for number in range(1, 3000)), "fine"]


async def test_signs_of_life_are_heard_by_whom_they_concern(backend: WsCommBackend):
    go_on = asyncio.Event()

    async def behave(peer: ServerConnection) -> None:
        first, second = await frame_of(peer), await frame_of(peer)
        await peer.send(json.dumps({"type": "heartbeat", "ids": [first["id"], 77, "x", None]}))
        await peer.send(json.dumps({"type": "heartbeat"}))
        await peer.send(event(first["id"], "x", DELTA))
        await go_on.wait()
        for frame in (first, second):
            await peer.send(event(frame["id"]))
        await peer.wait_closed()

    heard = {"first": 0, "second": 0}

    async def ask(name: str) -> None:
        def listener() -> None:
            heard[name] += 1

        with listening(listener):
            await backend.send("c", "w", {"text": name})

    async with worker(behave) as address:
        await backend.register_endpoint("w", address)
        asked = [asyncio.create_task(ask(name)) for name in heard]
        await soon(lambda: heard["first"] == 2)
        assert heard["second"] == 0
        go_on.set()
        await asyncio.gather(*asked)
    assert heard == {"first": 3, "second": 1}


# --- health, closing, addresses ---


@pytest.mark.parametrize(
    ("rest", "healthy"),
    [
        ({"type": "pong", "status": "ok"}, True),
        ({"type": "pong", "status": "ok", "agent_id": "w"}, True),
        ({"type": "pong", "status": "draining"}, False),
        ({"type": "pong"}, False),
        ({"type": MESSAGE, "data": "ok"}, False),
        ({"type": ERROR, "code": "protocol", "message": "a ping?"}, False),
        (None, False),
    ],
)
async def test_health(backend: WsCommBackend, rest: Any, healthy: bool):
    async def behave(peer: ServerConnection) -> None:
        frame = await frame_of(peer)
        assert frame["type"] == "ping"
        if rest is not None:
            await peer.send(json.dumps({"id": frame["id"], **rest}))
        await peer.wait_closed()

    async with worker(behave) as address:
        await backend.register_endpoint("w", address)
        started = time.monotonic()
        assert await backend.health_check("w") is healthy
        assert time.monotonic() - started < 1.3


async def test_a_probe_of_a_black_hole_is_bounded(backend: WsCommBackend):
    async with says(b"", "keep") as peer:
        await backend.register_endpoint("w", peer.address)
        started = time.monotonic()
        assert not await backend.health_check("w")
        assert time.monotonic() - started < 1.3


async def test_closing_ends_what_is_under_way_even_the_handshake(backend: WsCommBackend):
    async def silent(peer: ServerConnection) -> None:
        async for _ in peer:
            pass

    async with says(b"", "keep") as hole, worker(silent) as address:
        await backend.register_endpoint("hole", hole.address)
        await backend.register_endpoint("w", address)
        metadata = {"idempotency_key": "k"}
        waiting = [
            asyncio.create_task(backend.send("c", dst, {"text": "q", "metadata": metadata})) for dst in ("hole", "w")
        ]
        await soon(lambda: len(hole.heads) == 1)
        started = time.monotonic()
        await asyncio.gather(backend.close(), backend.close())
        for task in waiting:
            with pytest.raises(BackendClosedError):
                await task
        assert time.monotonic() - started < 1.3


async def test_an_agent_that_moved_is_asked_at_its_new_address(backend: WsCommBackend):
    gate = Gate()

    async def silent(peer: ServerConnection) -> None:
        async for _ in peer:
            gate.started.set()

    async with worker(silent) as old, worker(good) as new:
        under_way = asyncio.create_task(send(backend, old))
        await gate.started.wait()
        await backend.register_endpoint("w", new)
        with pytest.raises(ConnectError, match=f"was registered at {new}"):
            await under_way
        assert (await send(backend, new))["text"] == "q"


async def test_what_an_agent_says_about_itself(backend: WsCommBackend):
    handle = await backend.spawn_local_agent("host", "127.0.0.1", 0, Gate())
    await backend.register_endpoint("w", handle.base_url)
    facts = dict(await backend.describe("w"))
    assert abs((facts.pop("date") - datetime.now(UTC)).total_seconds()) < 3
    assert facts == {"agent_id": "host", "status": "ok", "request limit": "1048576 bytes"}
    assert dict(await backend.describe("w")) == facts

    async def strange(peer: ServerConnection) -> None:
        await peer.send(event((await frame_of(peer))["id"]))
        await peer.wait_closed()

    async with worker(strange) as address:
        await backend.register_endpoint("w", address)
        with pytest.raises(ProtocolError, match="is not a pong"):
            await backend.describe("w")
    with pytest.raises(ConnectError):
        await backend.describe("w")


@pytest.mark.parametrize(
    "address",
    ["w:8000", "http://w:1", "ws://", "ws://ada:s3cret@w:1", "ws://w:99999", "ws://w:1/?a=b", "ws://w:1/#x", ""],
)
async def test_an_address_that_cannot_be_used_is_refused_without_its_secret(address: str):
    backend = WsCommBackend()
    with pytest.raises(ConfigError, match=r"agent 'w': address .* must be ws://host:port or wss://host:port") as caught:
        await backend.register_endpoint("w", address)
    assert "s3cret" not in str(caught.value)
    assert backend.endpoints == {}


@pytest.mark.parametrize("options", [EndpointOptions(headers={"X": "a\r\nY: b"}), EndpointOptions(credential="a\nb")])
async def test_a_header_that_cannot_be_sent_is_refused_without_its_value(options: EndpointOptions):
    backend = WsCommBackend(options={"w": options})
    with pytest.raises(ConfigError, match=r"the value of header '(X|Authorization)' cannot be sent"):
        await backend.register_endpoint("w", "ws://w:1")


@pytest.mark.parametrize(
    ("payload", "error", "told"),
    [
        ({"text": "\ud800"}, ProtocolError, "cannot be sent as JSON"),
        ({"text": "x", "metadata": {"x": object()}}, ProtocolError, "cannot be sent as JSON"),
        ({"metadata": {}}, ConfigError, '"text" or "parts"'),
    ],
    ids=range(3),
)
async def test_a_payload_that_cannot_be_sent_is_not(backend: WsCommBackend, payload: Any, error: Any, told: str):
    await backend.register_endpoint("w", "ws://127.0.0.1:1")
    with pytest.raises(error, match=told) as caught:
        await backend.send("c", "w", payload)
    assert caught.value.retryable is False


async def test_an_agents_failure_keeps_its_class(backend: WsCommBackend):
    told = {"type": ERROR, "id": 1, "code": "agent_failed", "message": "oh", "retryable": False, "retry_after_s": 3}
    async with upgraded(text_frame(told)) as peer:
        with pytest.raises(AgentFailedError, match="oh") as caught:
            await stream(backend, peer.address)
    assert (caught.value.retryable, caught.value.retry_after_s) == (False, 3)
