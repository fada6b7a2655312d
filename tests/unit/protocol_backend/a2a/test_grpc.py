"""A2A over gRPC: who is asked by it, what falls back and says so, whom the host lets in, what it survives."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import orjson
import pytest
from a2a.types.a2a_pb2 import GetTaskRequest, Message, Part, Role, SendMessageRequest
from a2a.types.a2a_pb2_grpc import A2AServiceStub
from unit.comm.agents import Agent, Echo, Gate, message, soon
from unit.comm.http2_peers import LOST, NO_GRPC, SPEAKS_ANOTHER, Serve, answers
from unit.comm.raw import ask as ask_raw
from unit.comm.raw import get
from unit.protocol_backend.a2a.peer import Peer
from unit.protocol_backend.grpc.peers import Relay, tcp
from yarl import URL

from streaming_queue.comm.base import EndpointOptions, HostLimits, HostOptions
from streaming_queue.comm.context import listening
from streaming_queue.comm.grpc_wire import open_channel
from streaming_queue.config import Config
from streaming_queue.errors import (
    AuthError,
    BackendClosedError,
    BackendNotInstalledError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
)
from streaming_queue.messages import DELTA, STATUS
from streaming_queue.protocol_backend.a2a import exchange, grpc_interface
from streaming_queue.protocol_backend.a2a.card import GRPC, HTTP_JSON, JSONRPC, read_card
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.protocol_backend.a2a.dialect import CALL_EXTENSION, CARD_PATH
from streaming_queue.runner.backends import create_backend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

LIMITS = HostLimits(disconnect_grace_s=2.0, stop_s=1.0)
CLIENT = "streaming_queue.protocol_backend.a2a.client"


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What our client logged: gRPC's library may log the end of an earlier test's channel in the middle of this one."""
    return [record for record in caplog.records if record.name == CLIENT]


@pytest.fixture
async def make():
    backends: list[A2ACommBackend] = []

    def make(**options: Any) -> A2ACommBackend:
        backends.append(A2ACommBackend(**{"grpc": True, "binding": GRPC, **options}))
        return backends[-1]

    yield make
    for backend in backends:
        await backend.close()


@pytest.fixture
async def connect(make: Any):
    """Host an executor; returns a backend that has it as `w`, and its handle."""

    async def connect(executor: Any, *, credential: str | None = None, **options: Any) -> tuple[A2ACommBackend, Any]:
        host_options = HostOptions(**{"limits": LIMITS, **options.pop("host_options", {})})
        options["options"] = {"w": EndpointOptions(credential=credential)}
        backend = make(host_options=host_options, **options)
        handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, executor)
        await backend.register_endpoint("w", handle.base_url)
        return backend, handle

    return connect


@asynccontextmanager
async def card_for(port: int) -> AsyncIterator[str]:
    """The address of a card of ours whose gRPC interface is at `port`."""
    interface = {"url": f"127.0.0.1:{port}", "protocolBinding": "GRPC", "protocolVersion": "1.0"}
    card = {
        "name": "w",
        "capabilities": {"streaming": True, "extensions": [{"uri": CALL_EXTENSION}]},
        "supportedInterfaces": [interface],
    }
    async with Peer(card=card) as peer:
        yield peer.url


async def served_card(handle: Any, host: str = "127.0.0.1") -> dict[str, Any]:
    port = int(handle.base_url.rpartition(":")[2])
    answer = await ask_raw(port, get(CARD_PATH, host=f"{host}:{port}"))
    document: dict[str, Any] = json.loads(answer.body)
    return document


def door(handle: Any) -> Any:
    """The listener of the host for gRPC."""
    return handle._door


def grpc_port(card: dict[str, Any]) -> int:
    [url] = [item["url"] for item in card["supportedInterfaces"] if item["protocolBinding"] == GRPC]
    return int(url.rpartition(":")[2])


async def used(backend: A2ACommBackend) -> str:
    return str((await backend.describe("w"))["used"]).partition(" at ")[0]


async def collect(stream: Any) -> list[Any]:
    return [event async for event in stream]


# --- who is asked by gRPC ---


async def test_the_card_names_grpc_on_request_at_the_name_it_was_asked_by(connect: Any):
    _, plain = await connect(Echo(), grpc=False)
    assert all(item["protocolBinding"] != GRPC for item in (await served_card(plain))["supportedInterfaces"])
    _, handle = await connect(Echo())
    card = await served_card(handle, "localhost")
    port = grpc_port(card)
    assert card["supportedInterfaces"][-1] == {
        "url": f"localhost:{port}",
        "protocolBinding": "GRPC",
        "protocolVersion": "1.0",
    }
    assert not handle.base_url.endswith(f":{port}")


@pytest.mark.parametrize("binding", [JSONRPC, HTTP_JSON, GRPC])
async def test_the_preferred_interface_is_used(connect: Any, caplog: pytest.LogCaptureFixture, binding: str):
    backend, _ = await connect(Echo(), binding=binding)
    assert await used(backend) == f"{binding} 1.0"
    assert (await backend.send("c", "w", {"text": "hi"}))["text"] == "hi"
    assert await backend.health_check("w")
    assert logged(caplog) == []


async def test_an_unknown_binding_is_refused():
    with pytest.raises(ConfigError, match="binding 'SOAP' is unknown: choose one of JSONRPC, HTTP\\+JSON, GRPC"):
        A2ACommBackend(binding="SOAP")


async def test_the_configuration_says_what_is_served_and_preferred():
    backend: Any = create_backend(Config.of({"a2a": {"grpc": True, "binding": "GRPC"}}))
    await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())
    await backend.register_endpoint("w", handle.base_url)
    assert await used(backend) == "GRPC 1.0"
    await backend.close()
    with pytest.raises(ConfigError, match=r"a2a\.binding"):
        Config.of({"a2a": {"binding": "SOAP"}})


# --- where it is not used: never silently ---


async def test_a_card_without_it(connect: Any, caplog: pytest.LogCaptureFixture):
    backend, handle = await connect(Echo(), grpc=False)
    for _ in range(2):
        assert await backend.health_check("w")
        assert len(logged(caplog)) == 1
        assert (await backend.send("c", "w", {"text": "hi"}))["text"] == "hi"
    said = (
        f"{handle.base_url}: using JSONRPC instead of GRPC: the card has no interface of that binding that we may use"
    )
    assert caplog.record_tuples == [(CLIENT, logging.WARNING, said)]


async def test_nobody_listens_there(connect: Any, caplog: pytest.LogCaptureFixture):
    backend, handle = await connect(Echo())
    await door(handle).stop()
    assert (await backend.send("c", "w", {"text": "hi"}))["text"] == "hi"
    assert await used(backend) == "JSONRPC 1.0"
    assert await backend.health_check("w")
    [record] = logged(caplog)
    assert f"{handle.base_url}: using JSONRPC instead of GRPC: " in record.message
    assert f"cannot connect by gRPC to http://127.0.0.1:{door(handle).port}" in record.message


async def test_somebody_else_listens_there(make: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grpc_interface, "CONNECT_TIMEOUT_S", 0.2)
    backend = make()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        await reader.read()

    async with tcp(silent) as port, card_for(port) as url:
        await backend.register_endpoint("w", url)
        with pytest.raises(ConnectError, match=f"{url}: (no connection|cannot connect) by gRPC"):
            await backend.send("c", "w", {"text": "hi"})
        await backend.close()


@pytest.mark.parametrize("peer", [*LOST.values(), *SPEAKS_ANOTHER.values()], ids=[*LOST, *SPEAKS_ANOTHER])
async def test_somebody_loses_the_call_or_speaks_something_else_there(make: Any, peer: Serve):
    async with tcp(peer) as port, card_for(port) as url:
        for streaming in [False, True] * 3:
            backend = make()
            await backend.register_endpoint("w", url)
            with pytest.raises((ConnectError, ProtocolError)) as caught:
                if streaming:
                    await collect(backend.stream("c", "w", {"text": "hi"}))
                else:
                    await backend.send("c", "w", {"text": "hi"})
            assert caught.value.retryable is True
            await backend.close()


@pytest.mark.parametrize("peer", NO_GRPC.values(), ids=NO_GRPC)
async def test_what_is_no_answer_of_grpc(make: Any, peer: Serve):
    async with tcp(peer) as port, card_for(port) as url:
        backend = make()
        await backend.register_endpoint("w", url)
        with pytest.raises(ProtocolError):
            await backend.send("c", "w", {"text": "hi"})
        await backend.close()


@pytest.mark.parametrize(("status", "raised"), [(2, RemoteError), (13, RemoteError), (14, ConnectError)])
async def test_a_status_without_a_word_of_a2a(make: Any, status: int, raised: type[Exception]):
    async with tcp(answers(status)) as port, card_for(port) as url:
        backend = make()
        await backend.register_endpoint("w", url)
        with pytest.raises(raised):
            await backend.send("c", "w", {"text": "hi"})
        await backend.close()


async def test_its_library_is_missing(connect: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    backend, _ = await connect(Echo())
    monkeypatch.setitem(sys.modules, "streaming_queue.protocol_backend.a2a.grpc_interface", None)
    assert (await backend.send("c", "w", {"text": "hi"}))["text"] == "hi"
    [record] = logged(caplog)
    assert "needs grpcio: pip install 'grpcio" in record.message
    monkeypatch.setitem(sys.modules, "streaming_queue.protocol_backend.a2a.grpc_service", None)
    with pytest.raises(BackendNotInstalledError, match="pip install 'grpcio"):
        await connect(Echo())


async def test_after_a_failure_it_is_tried_again(connect: Any):
    backend, handle = await connect(Echo())
    assert await used(backend) == "GRPC 1.0"
    await backend.send("c", "w", {"text": "hi"})
    await door(handle).stop()
    with pytest.raises(ConnectError):
        await backend.send("c", "w", {"text": "hi"})
    assert (await backend.send("c", "w", {"text": "hi"}))["text"] == "hi"


CARD_AT = URL("https://agent.example:8443/.well-known/agent-card.json")


@pytest.mark.parametrize(
    ("url", "place", "own"),
    [
        ("agent.example:50051", "https://agent.example:50051", True),
        ("https://agent.example/a2a/grpc", "https://agent.example", True),
        ("grpcs://agent.example:50051", "https://agent.example:50051", True),
        ("trusted.example:50051", "https://trusted.example:50051", False),
        ("http://agent.example:50051", None, False),  # without TLS the credential would be in the open
        ("evil.example:50051", None, False),
        ("localhost:50051", None, False),
        ("unix:/tmp/socket", None, False),
        ("ftp://agent.example:50051", None, False),
        ("agent.example:port", None, False),
    ],
)
def test_where_it_may_be(url: str, place: str | None, own: bool):
    interfaces = [
        {"url": url, "protocolBinding": "GRPC", "protocolVersion": "1.0"},
        {"url": "https://agent.example:8443/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
    ]
    body = orjson.dumps({"supportedInterfaces": interfaces})
    trusted = {URL("https://trusted.example:50051")}
    assert read_card(body, CARD_AT, trusted).binding == JSONRPC
    card = read_card(body, CARD_AT, trusted, GRPC)
    if place is None:
        assert card.binding == JSONRPC
    else:
        assert (card.binding, str(card.url), card.own_origin) == (GRPC, place, own)


async def test_a_tls_option_of_pythons_is_no_use(make: Any):
    context = await asyncio.to_thread(ssl.create_default_context)
    host = make(host_options=HostOptions(tls=context))
    with pytest.raises(ConfigError, match=r"gRPC cannot use its ssl\.SSLContext"):
        await host.spawn_local_agent("w", "127.0.0.1", 0, Echo())


# --- what the host does ---


@pytest.mark.parametrize(
    ("version", "taken"), [(None, False), ("", False), ("0.3", False), ("2.0", False), ("1.0", True), ("1.0.1", True)]
)
async def test_the_version_is_honoured(connect: Any, version: str | None, taken: bool):
    _, handle = await connect(Echo())
    channel = open_channel(f"127.0.0.1:{door(handle).port}", None)
    stub: Any = A2AServiceStub(channel)  # type: ignore[no-untyped-call]
    metadata = () if version is None else (("a2a-version", version),)
    request = SendMessageRequest(message=Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="hi")]))
    calls = [lambda: stub.SendMessage(request, metadata=metadata), lambda: _first(stub, request, metadata)]
    for call in calls:
        if taken:
            assert (await call()).message.parts[0].text == "hi"
            continue
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert b"VERSION_NOT_SUPPORTED" in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    await channel.close()


async def _first(stub: Any, request: SendMessageRequest, metadata: Any) -> Any:
    return await stub.SendStreamingMessage(request, metadata=metadata).read()


async def knows(credential: str) -> str | None:
    if credential == "raise":
        raise ValueError("key sk-123 is bad")
    return "ada" if credential == "s3cret" else None


async def test_who_may_call(connect: Any):
    seen: list[str | None] = []

    async def tell(context: Any, event_queue: Any) -> None:
        seen.append(context.principal)
        await event_queue.enqueue_event(message("hi"))

    guarded = {"host_options": {"authenticator": knows}}
    backend, _ = await connect(Agent(tell), credential="s3cret", **guarded)
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "hi"
    await collect(backend.stream("c", "w", {"text": "q"}))
    assert await used(backend) == "GRPC 1.0"
    assert seen == ["ada", "ada"]
    for credential in ("wrong", None):
        backend, _ = await connect(Agent(tell), credential=credential, **guarded)
        for asked in (backend.send("c", "w", {"text": "q"}), collect(backend.stream("c", "w", {"text": "q"}))):
            with pytest.raises(AuthError) as caught:
                await asked
            assert caught.value.retryable is False
        with pytest.raises(AuthError):
            await backend.describe("w")
    assert len(seen) == 2


async def test_no_text_of_a_strangers_exception_leaves(connect: Any, caplog: pytest.LogCaptureFixture):
    backend, _ = await connect(Echo(), credential="raise", host_options={"authenticator": knows})
    with pytest.raises(Exception, match="the host failed on this call") as caught:
        await backend.send("c", "w", {"text": "q"})
    assert "sk-123" not in str(caught.value)
    assert "sk-123" in caplog.text


@pytest.mark.parametrize(
    "error",
    [RateLimitedError("slow down", retry_after_s=2.5), ConfigError("no such model"), RateLimitedError("x" * 50_000)],
    ids=["limited", "config", "long"],
)
async def test_a_failure_keeps_its_class(connect: Any, error: RateLimitedError | ConfigError):
    async def fail(context: Any, event_queue: Any) -> None:
        raise error

    backend, _ = await connect(Agent(fail))
    for asked in (backend.send("c", "w", {"text": "q"}), collect(backend.stream("c", "w", {"text": "q"}))):
        with pytest.raises(type(error), match=str(error)[:900]) as caught:
            await asked
        assert caught.value.retryable == error.retryable
        assert caught.value.retry_after_s == error.retry_after_s
    assert await used(backend) == "GRPC 1.0"


@pytest.mark.parametrize("size", [200_000, 5_000_000])
async def test_what_is_too_large_is_refused_for_good(connect: Any, size: int):
    limits = HostLimits(body_bytes=100_000, stop_s=1.0)
    backend, _ = await connect(Echo(), host_options={"limits": limits})
    with pytest.raises(ProtocolError) as caught:
        await backend.send("c", "w", {"text": "x" * size})
    assert caught.value.retryable is False
    assert (await backend.send("c", "w", {"text": "hi"}))["text"] == "hi"


async def test_stopping_is_bounded_and_fails_what_is_under_way(connect: Any):
    gate = Gate()
    backend, handle = await connect(gate)
    asked = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
    await gate.started.wait()
    started = time.monotonic()
    await handle.stop()
    assert time.monotonic() - started < 2
    with pytest.raises(ConnectError) as caught:
        await asked
    assert caught.value.retryable


async def test_draining_takes_no_message_more(connect: Any):
    gate = Gate()
    backend, handle = await connect(gate)
    asked = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
    await gate.started.wait()
    draining = asyncio.create_task(handle.drain(5.0))
    await soon(lambda: not handle._handler.ready)
    with pytest.raises(ConnectError):
        await backend.send("c", "w", {"text": "q"})
    gate.open.set()
    assert (await asked)["text"] == "answer 1"
    await draining


# --- what lasts, breaks, is left ---


async def test_pieces_and_words_come_before_the_end(connect: Any):
    go = asyncio.Event()

    async def talk(context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event({"type": STATUS, "data": "at it", "metadata": {"done": 1}})
        await event_queue.enqueue_event({"type": DELTA, "data": "hel"})
        await go.wait()
        await event_queue.enqueue_event({"type": DELTA, "data": "lo"})
        await event_queue.enqueue_event(message("hello", metadata={"llm_ms": 3}))

    backend, _ = await connect(Agent(talk))
    signs: list[None] = []
    events: list[Any] = []
    with listening(lambda: signs.append(None)):
        async for event in backend.stream("c", "w", {"text": "q"}):
            events.append(event)
            if event["type"] == DELTA:
                go.set()
    assert events[0] == {"type": STATUS, "data": "at it", "metadata": {"done": 1}}
    assert [event["data"] for event in events[1:-1]] == ["hel", "lo"]
    assert events[-1] == message("hello", metadata={"llm_ms": 3})
    assert len(signs) >= 4


async def test_a_reader_that_leaves_ends_the_work(connect: Any):
    gate = Gate()
    backend, _ = await connect(gate)
    asked = asyncio.create_task(backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}}))
    await gate.started.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.wait_for(gate.ended.wait(), 1)
    assert gate.cancelled == 1


async def test_a_backend_that_is_closed_says_so(connect: Any):
    gate = Gate()
    host, handle = await connect(gate)
    asking, _ = await connect(Echo())
    await asking.register_endpoint("v", handle.base_url)
    asked = asyncio.create_task(asking.send("c", "v", {"text": "q"}))
    await gate.started.wait()
    await asking.close()
    with pytest.raises(BackendClosedError):
        await asked
    await host.close()


async def test_a_message_comes_back_to_its_work_when_the_connection_breaks(connect: Any, make: Any):
    gate = Gate()
    _, handle = await connect(gate)
    backend = make()
    relay = Relay(door(handle).port)
    async with tcp(relay) as port, card_for(port) as url:
        await backend.register_endpoint("w", url)
        keyed = {"text": "q", "metadata": {"idempotency_key": "k"}}
        for asking in (backend.send("c", "w", keyed), collect(backend.stream("c", "w", {**keyed}))):
            gate.open.clear()
            asked = asyncio.create_task(asking)
            if gate.runs == 0:
                await gate.started.wait()
                relay.reset()
                await soon(lambda: len(relay.connections) == 2)
            gate.open.set()
            await asked
        assert gate.runs == 1
        await backend.close()


async def test_without_a_key_a_broken_connection_is_an_error(connect: Any, make: Any):
    gate = Gate()
    _, handle = await connect(gate)
    backend = make()
    relay = Relay(door(handle).port)
    async with tcp(relay) as port, card_for(port) as url:
        await backend.register_endpoint("w", url)
        asked = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
        await gate.started.wait()
        relay.reset()
        with pytest.raises(ConnectError, match="the connection broke") as caught:
            await asked
        assert caught.value.retryable
        await backend.close()


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_long_silence_is_looked_after(connect: Any, monkeypatch: pytest.MonkeyPatch, streaming: bool):
    monkeypatch.setattr(exchange, "LOOK_AFTER_S", 0.05)
    monkeypatch.setattr(exchange, "SILENT_STREAM_S", 0.05)
    gate = Gate()
    backend, _ = await connect(gate)
    signs: list[None] = []

    async def ask() -> Any:
        with listening(lambda: signs.append(None)):
            if streaming:
                return (await collect(backend.stream("c", "w", {"text": "q"})))[-1]["data"]
            return (await backend.send("c", "w", {"text": "q"}))["text"]

    asked = asyncio.create_task(ask())
    await soon(lambda: len(signs) >= 3)
    gate.open.set()
    assert await asked == "answer 1"


class Vanishing(Relay):
    """Leaves the caller's connection open when it passes nothing more."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await super().__call__(reader, writer)
        await asyncio.Event().wait()


async def test_a_host_that_vanished_without_a_word_is_given_up(
    connect: Any, make: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exchange, "LOOK_AFTER_S", 0.05)
    monkeypatch.setattr("streaming_queue.comm.client.liveness.LOOK_TIMEOUT_S", 0.05)
    gate = Gate()
    _, handle = await connect(gate)
    backend = make()
    relay = Vanishing(door(handle).port)
    async with tcp(relay) as port, card_for(port) as url:
        await backend.register_endpoint("w", url)
        asked = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
        await gate.started.wait()
        relay.swallow()
        with pytest.raises(ConnectError, match="silent and cannot be reached"):
            await asked
        await backend.close()


async def test_a_reader_that_reads_nothing_is_left(connect: Any):
    async def pour(context: Any, event_queue: Any) -> None:
        for _ in range(400):
            await event_queue.enqueue_event({"type": DELTA, "data": "x" * 100_000})
        await event_queue.enqueue_event(message("done"))

    limits = HostLimits(body_deadline_s=0.1, stop_s=1.0)
    _, handle = await connect(Agent(pour), host_options={"limits": limits})
    channel = open_channel(f"127.0.0.1:{door(handle).port}", None)
    stub: Any = A2AServiceStub(channel)  # type: ignore[no-untyped-call]
    request = SendMessageRequest(message=Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="hi")]))
    call = stub.SendStreamingMessage(request, metadata=(("a2a-version", "1.0"),))
    await call.read()
    await asyncio.sleep(0.6)  # it is the reader's own idleness that is tested
    with pytest.raises(grpc.aio.AioRpcError, match=r"the caller did not read for 0\.3 s"):
        while await call.read() is not grpc.aio.EOF:
            pass
    await channel.close()


async def test_a_task_that_is_not_there(connect: Any):
    _, handle = await connect(Echo())
    channel = open_channel(f"127.0.0.1:{door(handle).port}", None)
    stub: Any = A2AServiceStub(channel)  # type: ignore[no-untyped-call]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetTask(GetTaskRequest(id="none"), metadata=(("a2a-version", "1.0"),))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await channel.close()
