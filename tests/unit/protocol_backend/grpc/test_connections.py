"""Connections that are refused, break, or say nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode
from unit.comm.agents import LIMITS, Agent, Gate, message, soon
from unit.comm.http2_peers import NO_GRPC, SPEAKS_ANOTHER, Serve
from unit.protocol_backend.grpc.peers import FINE, Relay, event, send, serving, stream, tcp

from streaming_queue.comm import grpc_wire
from streaming_queue.comm.client import exchange
from streaming_queue.comm.context import listening
from streaming_queue.errors import ConnectError, ProtocolError, SendTimeoutError
from streaming_queue.messages import DELTA
from streaming_queue.protocol_backend.grpc import agent_pb2, client
from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

# --- no connection, a broken one, none that ends ---


@pytest.mark.parametrize("address", ["grpc://127.0.0.1:1", "grpc://no.such.host.invalid:80", "grpc://[::1]:1"])
async def test_nobody_there(backend: GrpcCommBackend, address: str):
    await backend.register_endpoint("w", address)
    started = time.monotonic()
    with pytest.raises(ConnectError) as caught:
        await backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}})
    assert str(caught.value).startswith(f"{address}: UNAVAILABLE: ")
    assert caught.value.retryable is True
    assert not await backend.health_check("w")
    assert time.monotonic() - started < 3


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


async def speaks_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    await writer.drain()


async def speaks_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"\x00\xff" * 5000)
    await writer.drain()


async def stays_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass


@pytest.mark.parametrize("peer", [closes, resets, speaks_http1, speaks_garbage, stays_silent])
async def test_who_is_no_grpc_server_is_not_reached(
    backend: GrpcCommBackend, monkeypatch: pytest.MonkeyPatch, peer: Any
):
    monkeypatch.setitem(grpc_wire.CHANNEL_OPTIONS, "grpc.min_reconnect_backoff_ms", 500)
    async with tcp(peer) as port:
        started = time.monotonic()
        for ask in (send, stream):
            with pytest.raises(ConnectError, match=f"grpc://127.0.0.1:{port}: UNAVAILABLE") as caught:
                await ask(backend, port, idempotency_key="k")
            assert caught.value.retryable is True
        assert not await backend.health_check("w")
        assert time.monotonic() - started < 4


@pytest.mark.parametrize("ask", [send, stream])
@pytest.mark.parametrize("peer", [*SPEAKS_ANOTHER.values(), *NO_GRPC.values()], ids=[*SPEAKS_ANOTHER, *NO_GRPC])
async def test_who_begins_to_speak_something_else_is_no_remote_error(peer: Serve, ask: Any):
    async with tcp(peer) as port:
        for _ in range(10):
            backend = GrpcCommBackend()
            with pytest.raises((ConnectError, ProtocolError)) as caught:
                await ask(backend, port)
            assert caught.value.retryable is True
            await backend.close()


async def test_our_client_comes_back_by_itself(spawn: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    relay = Relay(port)
    async with tcp(relay) as relay_port:
        sending = asyncio.create_task(send(backend, relay_port, idempotency_key="k"))
        await gate.started.wait()
        relay.reset()
        await soon(lambda: len(relay.connections) == 2)
        await asyncio.sleep(LIMITS.disconnect_grace_s + 0.1)
        gate.open.set()
        assert (await sending)["text"] == "answer 1"
        assert (gate.runs, gate.cancelled) == (1, 0)
        await backend.close()


@pytest.mark.parametrize("ask", [send, stream])
async def test_without_a_key_nothing_is_sent_twice(spawn: Any, ask: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    relay = Relay(port)
    async with tcp(relay) as relay_port:
        sending = asyncio.create_task(ask(backend, relay_port))
        await gate.started.wait()
        relay.reset()
        with pytest.raises(ConnectError) as caught:
            await sending
        assert caught.value.retryable is True
        assert gate.runs == 1
        await backend.close()


async def test_who_is_unavailable_is_asked_once_more(backend: GrpcCommBackend):
    asked = 0

    async def refuse(body: bytes, context: Any) -> bytes:
        nonlocal asked
        asked += 1
        return await context.abort(StatusCode.UNAVAILABLE, "busy")

    async with serving(Send=refuse) as port:
        for metadata, times in (({}, 1), ({"idempotency_key": "k"}, 3)):
            with pytest.raises(ConnectError, match="UNAVAILABLE: busy"):
                await send(backend, port, **metadata)
            assert asked == times


async def test_a_stream_goes_on_where_it_broke(spawn: Any):
    steps = [asyncio.Event() for _ in range(3)]
    runs = 0

    async def behave(context: Any, queue: Any) -> None:
        nonlocal runs
        runs += 1
        for number, step in enumerate(steps):
            await queue.enqueue_event({"type": DELTA, "data": f"{number},"})
            await step.wait()

    port, backend = await spawn(Agent(behave))
    relay = Relay(port)
    async with tcp(relay) as relay_port:
        await backend.register_endpoint("w", f"grpc://127.0.0.1:{relay_port}")
        events = []
        async with asyncio.timeout(8):
            async for event in backend.stream("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}}):
                events.append(event)
                if event["data"] == "1,":
                    relay.reset()
                if event["type"] == DELTA:
                    steps[len(events) - 1].set()
        assert [event["data"] for event in events] == ["0,", "1,", "2,", "0,1,2,"]
        assert (runs, len(relay.connections)) == (1, 2)
        await backend.close()


@pytest.mark.parametrize("ask", [send, stream])
async def test_a_connection_that_breaks_at_once_again_is_a_connection_error(spawn: Any, ask: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    relay = Relay(port)
    async with tcp(relay) as relay_port:
        asking = asyncio.create_task(ask(backend, relay_port, idempotency_key="k"))
        await gate.started.wait()
        relay.reset()
        await soon(lambda: len(relay.connections) == 2)
        await asyncio.sleep(0.1)
        relay.reset()
        with pytest.raises(ConnectError):
            await asking
        assert gate.runs == 1
        await backend.close()


async def test_each_connection_that_held_is_made_anew(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exchange, "HELD_S", 0.05)
    gate = Gate()
    port, backend = await spawn(gate)
    relay = Relay(port)
    async with tcp(relay) as relay_port:
        sending = asyncio.create_task(send(backend, relay_port, idempotency_key="k"))
        await gate.started.wait()
        for number in range(1, 5):
            await soon(lambda number=number: len(relay.connections) == number)
            await asyncio.sleep(0.1)
            relay.reset()
        gate.open.set()
        assert (await sending)["text"] == "answer 1"
        assert gate.runs == 1
        await backend.close()


async def test_an_idle_connection_that_broke_costs_no_answer(spawn: Any):
    async def echo(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message("fine"))

    port, backend = await spawn(Agent(echo))
    relay = Relay(port)
    async with tcp(relay) as relay_port:
        for number in range(20):
            assert (await send(backend, relay_port, idempotency_key=str(number)))["text"] == "fine"
            relay.reset()
        await backend.close()


async def test_a_peer_that_vanished_is_found_by_pings(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(grpc_wire.CHANNEL_OPTIONS, "grpc.keepalive_time_ms", 200)
    monkeypatch.setitem(grpc_wire.CHANNEL_OPTIONS, "grpc.keepalive_timeout_ms", 200)
    gate = Gate()
    port, backend = await spawn(gate)
    relay = Relay(port)
    async with tcp(relay) as relay_port:
        sending = asyncio.create_task(send(backend, relay_port))
        await gate.started.wait()
        relay.swallow()
        started = time.monotonic()
        with pytest.raises(ConnectError):
            await sending
        assert time.monotonic() - started < 3
        await backend.close()


async def test_a_black_hole_is_left_by_the_callers_own_deadline(backend: GrpcCommBackend):
    cancels: list[str] = []

    async def never(body: bytes, context: Any) -> bytes:
        await asyncio.Event().wait()
        return FINE

    async def cancel(body: bytes, context: Any) -> bytes:
        cancels.append(agent_pb2.Reference.FromString(body).id)
        return await never(body, context)

    async with serving(Send=never, Cancel=cancel) as port:
        await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}})
        assert 0.95 < time.monotonic() - started < 1.5
        assert len(cancels) == 1


async def test_who_is_cancelled_twice_does_not_wait(backend: GrpcCommBackend):
    begun, cancelling = asyncio.Event(), asyncio.Event()

    async def never(body: bytes, context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return FINE

    async def cancel(body: bytes, context: Any) -> bytes:
        cancelling.set()
        return await never(body, context)

    async with serving(Send=never, Cancel=cancel) as port:
        sending = asyncio.create_task(send(backend, port, idempotency_key="k"))
        await begun.wait()
        sending.cancel()
        await cancelling.wait()
        sending.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert time.monotonic() - started < 0.2
        await backend.close()
        assert time.monotonic() - started < 1.3


@pytest.mark.parametrize("metadata", [{}, {"idempotency_key": "k", "kind": "command"}])
async def test_no_cancel_is_sent_for_a_command_or_without_a_key(backend: GrpcCommBackend, metadata: dict[str, str]):
    begun, cancels = asyncio.Event(), 0

    async def never(body: bytes, context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return FINE

    async def cancel(body: bytes, context: Any) -> bytes:
        nonlocal cancels
        cancels += 1
        return b""

    async with serving(Send=never, Cancel=cancel) as port:
        sending = asyncio.create_task(send(backend, port, **metadata))
        await begun.wait()
        sending.cancel()
        await asyncio.wait({sending})
        await backend.close()
        assert cancels == 0


@pytest.mark.parametrize("ask", [send, stream])
async def test_a_deadline_that_passes_is_a_timeout(backend: GrpcCommBackend, ask: Any):
    async def never(body: bytes, context: Any) -> bytes:
        await asyncio.Event().wait()
        return FINE

    async def streamed(body: bytes, context: Any) -> AsyncIterator[bytes]:
        yield event(delta="x")
        await asyncio.Event().wait()

    async with serving(Send=never, stream=streamed) as port:
        for deadline_ms in (0, 200):
            started = time.monotonic()
            with pytest.raises(SendTimeoutError, match="DEADLINE_EXCEEDED"):
                await ask(backend, port, deadline_ms=deadline_ms, kind="question")
            assert time.monotonic() - started < 1


# --- signs of life ---


async def test_an_answer_that_is_long_in_coming_shows_signs_of_life(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "LOOK_AFTER_S", 0.05)
    gate, signs = Gate(), 0

    def count() -> None:
        nonlocal signs
        signs += 1
        if signs == 4:
            gate.open.set()

    _, backend = await spawn(gate)
    with listening(count):
        assert (await backend.send("c", "w", {"text": "q"}))["text"] == "answer 1"
    assert signs >= 4


async def test_a_stream_shows_signs_of_life(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    from streaming_queue.protocol_backend.grpc import service

    monkeypatch.setattr(service, "HEARTBEAT_S", 0.02)
    gate, signs = Gate(), 0

    def count() -> None:
        nonlocal signs
        signs += 1
        if signs == 4:
            gate.open.set()

    _, backend = await spawn(gate)
    with listening(count):
        assert [event["data"] async for event in backend.stream("c", "w", {"text": "q"})] == ["answer 1"]


async def test_who_does_not_say_that_it_is_at_work_shows_none(
    backend: GrpcCommBackend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "LOOK_AFTER_S", 0.02)

    async def slow(body: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.2)
        return FINE

    async def garbage(body: bytes, context: Any) -> bytes:
        return b"\xff"

    async def idle(body: bytes, context: Any) -> bytes:
        return b""

    signs: list[None] = []
    for more in ({}, {"Running": garbage}, {"Running": idle}):
        async with serving(Send=slow, **more) as port:
            with listening(lambda: signs.append(None)):
                assert (await send(backend, port))["text"] == "fine"
    assert signs == []
