"""Peers that do not keep to the contract, by malice or by accident."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import StatusCode
from unit.comm.agents import Gate
from unit.comm.http2_peers import answers
from unit.protocol_backend.grpc.peers import FINE, Method, event, fine, send, serving, stream, tcp

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.skills import Skill
from streaming_queue.errors import (
    AuthError,
    BackendClosedError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
    StreamingQueueError,
)
from streaming_queue.messages import DELTA, MESSAGE
from streaming_queue.protocol_backend.grpc import agent_pb2
from streaming_queue.protocol_backend.grpc.codec import SERVICE
from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend
from streaming_queue.protocol_backend.grpc.statuses import ERROR_KEY, FOREIGN, PUSHBACK_KEY

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

# --- strangers that do well ---


async def test_the_legitimate_twin_is_served(backend: GrpcCommBackend):
    async def streamed(body: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b""
        yield event(delta="fi")
        yield event(answer=agent_pb2.Answer(text="fine", metadata_json='{"llm_ms": 1}'))

    async with serving(Send=fine, stream=streamed) as port:
        for _ in range(3):
            reply = await send(backend, port)
            assert (reply["text"], reply["raw"]) == ("fine", agent_pb2.Answer(text="fine"))
        assert await stream(backend, port) == [
            {"type": DELTA, "data": "fi"},
            {"type": MESSAGE, "data": "fine", "metadata": {"llm_ms": 1}},
        ]


async def test_a_call_carries_what_the_options_say(backend: GrpcCommBackend):
    seen: list[Any] = []

    async def note(body: bytes, context: Any) -> bytes:
        seen.append((dict(context.invocation_metadata()), context.time_remaining(), agent_pb2.Message.FromString(body)))
        return FINE

    async with serving(Send=note) as port:
        await send(backend, port, mine=1, question_id="问", attempt=2, deadline_ms=9000, traceparent="00-1-2-01")
        await send(backend, port, kind="command", deadline_ms=9000)
    (metadata, left_s, sent), (_, unbounded, command) = seen
    assert {
        "authorization": "Bearer s3cret",
        "x-team": "blue",
        "traceparent": "00-1-2-01",
    }.items() <= metadata.items()
    assert 8 < left_s < 9.1
    assert sent.text == "q"
    assert json.loads(sent.metadata_json) == {"mine": 1, "question_id": "问", "attempt": 2}
    assert sent.id
    assert (json.loads(command.metadata_json), unbounded) == ({"kind": "command", "deadline_ms": 9000}, None)


async def test_what_the_service_cannot_carry_is_not_sent(backend: GrpcCommBackend):
    async with serving(Send=fine) as port:
        await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
        for payload in (
            {"parts": [{"kind": "file", "uri": "x"}]},
            {"parts": ["x"]},
            {"text": "\ud800"},
            {"text": 5},
            {"text": "x", "metadata": {"when": object()}},
        ):
            with pytest.raises(ProtocolError) as caught:
                await backend.send("c", "w", payload)
            assert caught.value.retryable is False
        with pytest.raises(ConfigError, match='"text" or "parts"'):
            await backend.send("c", "w", {"metadata": {}})


# --- answers that are none ---


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"\xff\xff", "not an answer"),
        (b"<html>", "not an answer"),
        (agent_pb2.Answer(text="x", metadata_json="[]").SerializeToString(), "not a JSON object"),
        (agent_pb2.Answer(text="x", metadata_json="{\x1b").SerializeToString(), r"not a JSON object: '{\\x1b'"),
    ],
    ids=range(4),
)
async def test_what_is_no_answer(backend: GrpcCommBackend, answer: bytes, what: str):
    async def wrong(body: bytes, context: Any) -> bytes:
        return answer

    async def streamed(body: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"\xff\xff"

    async with serving(Send=wrong, stream=streamed) as port:
        with pytest.raises(ProtocolError, match=what) as caught:
            await send(backend, port)
        assert caught.value.retryable is True
        with pytest.raises(ProtocolError, match="not an event"):
            await stream(backend, port)


async def test_an_empty_answer_is_an_empty_text(backend: GrpcCommBackend):
    async def empty(body: bytes, context: Any) -> bytes:
        return b""

    async with serving(Send=empty) as port:
        assert (await send(backend, port))["text"] == ""


@pytest.mark.parametrize("size", [17_000_000, 34_000_000])
async def test_an_answer_over_the_limit(backend: GrpcCommBackend, size: int):
    async def huge(body: bytes, context: Any) -> bytes:
        return agent_pb2.Answer(text="x" * size).SerializeToString()

    async with serving(Send=huge) as port:
        with pytest.raises(ProtocolError) as caught:
            await send(backend, port)
        assert caught.value.retryable is True


async def test_a_message_over_the_common_limit_is_not_sent_again(backend: GrpcCommBackend):
    async with serving(Send=fine) as port:
        with pytest.raises(ProtocolError, match=r"RESOURCE_EXHAUSTED.*the message has 50\d+ bytes") as caught:
            await send(backend, port, "x" * 5_000_000)
        assert caught.value.retryable is False


@pytest.mark.parametrize("ask", [send, stream])
async def test_another_service(backend: GrpcCommBackend, ask: Any):
    async with serving(service="other.Service", Send=fine) as port:
        with pytest.raises(
            ConfigError, match=f"UNIMPLEMENTED.*the server there does not have {SERVICE}: correct the address"
        ):
            await ask(backend, port)
        assert not await backend.health_check("w")


async def test_streams_that_end_wrongly(backend: GrpcCommBackend):
    async def early(body: bytes, context: Any) -> AsyncIterator[bytes]:
        yield event(delta="x")

    async def failing(body: bytes, context: Any) -> AsyncIterator[bytes]:
        yield event(delta="x")
        await context.abort(StatusCode.DATA_LOSS, "lost it")

    async def endless(body: bytes, context: Any) -> AsyncIterator[bytes]:
        yield event(answer=agent_pb2.Answer(text="fine"))
        await asyncio.Event().wait()

    async with serving(stream=early) as port:
        with pytest.raises(ProtocolError, match="ended without an answer"):
            await stream(backend, port)
    async with serving(stream=failing) as port:
        with pytest.raises(RemoteError, match="DATA_LOSS: lost it"):
            await stream(backend, port)
    async with serving(stream=endless) as port:
        assert await stream(backend, port) == [{"type": MESSAGE, "data": "fine"}]


async def test_a_reader_that_leaves_ends_the_call(backend: GrpcCommBackend):
    left = asyncio.Event()

    async def endless(body: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield event(delta="x")
                await asyncio.sleep(0.01)
        finally:
            left.set()

    async with serving(stream=endless) as port:
        await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
        async with aclosing(backend.stream("c", "w", {"text": "q"})) as events:
            async for _ in events:
                break
        async with asyncio.timeout(1):
            await left.wait()


# --- the statuses of others ---


@pytest.mark.parametrize("status", FOREIGN, ids=lambda status: status.name)
async def test_every_status_of_others(backend: GrpcCommBackend, status: StatusCode):
    async def refuse(body: bytes, context: Any) -> bytes:
        return await context.abort(status, "no\x1b[31m 坏", ((ERROR_KEY, b"garbage"), (PUSHBACK_KEY, "-1")))

    async with serving(Send=refuse) as port:
        with pytest.raises(StreamingQueueError) as caught:
            await send(backend, port)
    error = caught.value
    assert (type(error), error.retryable, error.retry_after_s) == (*FOREIGN[status], None)
    assert str(error).startswith(f"grpc://127.0.0.1:{port}: {status.name}: no\\x1b[31m \\u574f")


@pytest.mark.parametrize("status", FOREIGN, ids=lambda status: status.name)
async def test_every_bare_status_of_others(backend: GrpcCommBackend, status: StatusCode):
    async with tcp(answers(status.value[0])) as port:
        with pytest.raises(StreamingQueueError) as caught:
            await send(backend, port)
    assert (type(caught.value), caught.value.retryable) == FOREIGN[status]


async def test_a_time_to_wait_makes_it_a_rate_limit(backend: GrpcCommBackend):
    async def refuse(body: bytes, context: Any) -> bytes:
        return await context.abort(StatusCode.RESOURCE_EXHAUSTED, "", ((PUSHBACK_KEY, "2500"),))

    async with serving(Send=refuse) as port:
        with pytest.raises(RateLimitedError, match="RESOURCE_EXHAUSTED: no text") as caught:
            await send(backend, port)
        assert caught.value.retry_after_s == 2.5


async def test_the_event_is_the_truth(backend: GrpcCommBackend):
    told = b'{"type": "agent_error", "code": "auth", "message": "who are you?", "retryable": false}'

    async def refuse(body: bytes, context: Any) -> bytes:
        return await context.abort(StatusCode.UNAVAILABLE, "something else", ((ERROR_KEY, told),))

    async with serving(Send=refuse) as port:
        with pytest.raises(AuthError, match=f"grpc://127.0.0.1:{port}: who are you\\?"):
            await send(backend, port, idempotency_key="k")


@pytest.mark.parametrize("answer", [b"\xff", b"\x08\x02", b"\x08\x03", b""])
async def test_a_server_that_is_not_serving_is_not_healthy(backend: GrpcCommBackend, answer: bytes):
    async def check(body: bytes, context: Any) -> bytes:
        return answer

    async with serving(service="grpc.health.v1.Health", Check=check) as port:
        await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
        assert not await backend.health_check("w")


async def test_a_probe_is_bounded(backend: GrpcCommBackend):
    begun = asyncio.Event()

    async def check(body: bytes, context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    async with serving(service="grpc.health.v1.Health", Check=check) as port:
        await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
        started = time.monotonic()
        assert not await backend.health_check("w")
        assert time.monotonic() - started < 1.3
        begun.clear()
        probing = asyncio.create_task(backend.health_check("w"))
        await begun.wait()
        await backend.close()
        assert await probing is False


# --- what an agent says about itself ---


async def test_a_description(spawn: Any):
    class Described(Gate):
        description = "Answers questions. 回答"
        skills = (Skill("answer", "Answering", "answers", tags=("qa",), examples=("Why?",)),)

    gate = Described()
    _, backend = await spawn(gate)
    before = datetime.now(UTC)
    facts = dict(await backend.describe("w"))
    assert before - timedelta(seconds=1) < facts.pop("date") <= datetime.now(UTC) + timedelta(seconds=1)
    assert facts == {"name": "w", "about": "Answers questions. 回答", "skills": ["Answering"]}
    assert gate.runs == 0


async def test_descriptions_of_others(backend: GrpcCommBackend):
    def describing(answer: bytes) -> Method:
        async def describe(body: bytes, context: Any) -> bytes:
            return answer

        return describe

    out_of_time = agent_pb2.Description(agent_id="w")
    out_of_time.time.seconds = 2**60
    async with serving(Send=fine) as port:
        await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
        assert await backend.describe("w") == {}
    for answer in (b"\xff", out_of_time.SerializeToString()):
        async with serving(Describe=describing(answer)) as port:
            await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
            with pytest.raises(ProtocolError, match="not a description"):
                await backend.describe("w")
    await backend.register_endpoint("w", "grpc://127.0.0.1:1")
    with pytest.raises(ConnectError):
        await backend.describe("w")


# --- addresses and options ---


@pytest.mark.parametrize(
    "address",
    [
        "w:8000",
        "http://w:1",
        "grpc://",
        "grpc://w",
        "grpc://ada:s3cret@w:1",
        "grpc://w:99999",
        "grpc://w:1/path",
        "grpc://w:1/?a=b",
        "grpc://w:1/#x",
        "",
    ],
)
async def test_an_address_that_cannot_be_used_is_refused_without_its_secret(address: str):
    backend = GrpcCommBackend()
    with pytest.raises(ConfigError, match=r"agent 'w': address .* must be grpc://host:port") as caught:
        await backend.register_endpoint("w", address)
    assert "s3cret" not in str(caught.value)
    assert backend.endpoints == {}


@pytest.mark.parametrize(
    "options",
    [
        EndpointOptions(headers={"X": "a\r\nY: b"}),
        EndpointOptions(headers={"X": "s3crét"}),
        EndpointOptions(headers={"X-Bin": "s3cret"}),
        EndpointOptions(headers={"grpc-timeout": "s3cret"}),
        EndpointOptions(headers={"a b": "s3cret"}),
        EndpointOptions(credential="s3cret\nb"),
    ],
)
async def test_a_header_that_cannot_be_sent_is_refused_without_its_value(options: EndpointOptions):
    backend = GrpcCommBackend(options={"w": options})
    with pytest.raises(ConfigError, match=r"header '.*' cannot be sent") as caught:
        await backend.register_endpoint("w", "grpc://w:1")
    assert "s3cr" not in str(caught.value)


async def test_an_agent_may_move(backend: GrpcCommBackend):
    async def other(body: bytes, context: Any) -> bytes:
        return agent_pb2.Answer(text="moved").SerializeToString()

    async with serving(Send=fine) as first, serving(Send=other) as second:
        assert (await send(backend, first))["text"] == "fine"
        assert (await send(backend, second))["text"] == "moved"
        assert (await send(backend, first))["text"] == "fine"


async def test_closing_fails_what_is_under_way(backend: GrpcCommBackend):
    begun = asyncio.Event()

    async def never(body: bytes, context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return FINE

    async def streamed(body: bytes, context: Any) -> AsyncIterator[bytes]:
        begun.set()
        yield event(delta="x")
        await asyncio.Event().wait()

    async with serving(Send=never, stream=streamed) as port:
        for ask in (send, stream):
            begun.clear()
            backend = GrpcCommBackend()
            asking = asyncio.create_task(ask(backend, port, idempotency_key="k"))
            await begun.wait()
            await asyncio.sleep(0.05)
            await backend.close()
            with pytest.raises(BackendClosedError):
                await asking
