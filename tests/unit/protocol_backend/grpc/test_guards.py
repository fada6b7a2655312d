"""What a host demands of its callers."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode
from unit.comm.agents import Agent, Echo, Gate, message, soon
from unit.comm.raw import connection
from unit.protocol_backend.grpc.peers import raw, refused

from streaming_queue.comm.base import EndpointOptions, HostLimits
from streaming_queue.errors import AuthError, ProtocolError
from streaming_queue.messages import DELTA
from streaming_queue.protocol_backend.grpc import agent_pb2, agent_pb2_grpc
from streaming_queue.protocol_backend.grpc.codec import SERVICE

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


# --- limits ---


async def test_a_message_over_the_limit_is_refused_for_good(spawn: Any, caplog: pytest.LogCaptureFixture):
    _, backend = await spawn(Echo(), limits=HostLimits(body_bytes=100_000, stop_s=1))
    for size in (200_000, 3_000_000, 5_000_000):
        with pytest.raises(
            ProtocolError, match=r"over the limit of 100000 bytes|the message has 50\d+ bytes"
        ) as caught:
            await backend.send("c", "w", {"text": "x" * size})
        assert caught.value.retryable is False
    assert (await backend.send("c", "w", {"text": "x" * 99_000}))["text"]
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


async def test_a_limit_may_be_raised(spawn: Any):
    _, backend = await spawn(Echo(), limits=HostLimits(body_bytes=10_000_000, stop_s=1))
    assert len((await backend.send("c", "w", {"text": "x" * 9_000_000}))["text"]) == 9_000_000


async def test_a_message_that_does_not_come_is_not_waited_for(spawn: Any, dial: Any):
    port, backend = await spawn(Echo(), limits=HostLimits(body_deadline_s=0.1, stop_s=1))
    never = asyncio.Event()

    async def requests():
        await never.wait()
        yield b""

    for method in ("Send", "Stream"):
        call = dial(port).stream_unary(f"/{SERVICE}/{method}")(requests())
        code, told = await refused(call)
        assert (code, told["code"]) == (StatusCode.DEADLINE_EXCEEDED, "timeout")
    never.set()
    assert (await backend.send("c", "w", {"text": "fine"}))["text"] == "fine"


async def test_who_does_not_read_a_stream_is_left(spawn: Any, dial: Any):
    gate = Gate()

    async def behave(context: Any, queue: Any) -> None:
        for _ in range(16):  # more than the connection holds, and less than an answer may have
            await queue.enqueue_event({"type": DELTA, "data": "x" * 1_000_000})
        await gate.execute(context, queue)

    port, _ = await spawn(Agent(behave), limits=HostLimits(body_deadline_s=0.1, stop_s=1))
    call = agent_pb2_grpc.AgentStub(dial(port)).Stream(agent_pb2.Message(text="q"))
    await gate.started.wait()
    started = time.monotonic()
    await soon(lambda: gate.cancelled == 1)
    assert time.monotonic() - started >= 0.2
    call.cancel()


async def test_too_many_messages_at_once_are_asked_to_come_later(spawn: Any, dial: Any):
    gate = Gate()
    port, backend = await spawn(gate, limits=HostLimits(connections=3, stop_s=1))
    asked = [asyncio.create_task(backend.send("c", "w", {"text": str(number)})) for number in range(3)]
    await soon(lambda: gate.runs == 3)
    stub = agent_pb2_grpc.AgentStub(dial(port, ("grpc.max_concurrent_streams", 10)))
    code, told = await refused(stub.Send(agent_pb2.Message(text="q")))
    assert (code, told["code"], told["retry_after_s"]) == (StatusCode.RESOURCE_EXHAUSTED, "rate_limited", 1.0)
    assert not (await stub.Running(agent_pb2.Reference(id="m"))).running
    gate.open.set()
    await asyncio.gather(*asked)
    assert (await stub.Send(agent_pb2.Message(text="q"))).text == "answer 4"


async def test_too_many_connections_are_refused(spawn: Any, dial: Any):
    port, _ = await spawn(Echo(), limits=HostLimits(connections=2, stop_s=1))
    for _ in range(2):
        await raw(dial(port))(b"")
    code, _ = await refused(raw(dial(port))(b""))
    assert code is StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "opening", [b"", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\xff" * 5000]
)
async def test_who_does_not_begin_as_grpc_does_is_left(spawn: Any, opening: bytes):
    port, backend = await spawn(Echo(), limits=HostLimits(body_deadline_s=0.3, stop_s=1))
    async with connection(port) as peer:
        await peer.write(opening)
        with suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                await peer.reader.read()
    assert (await backend.send("c", "w", {"text": "fine"}))["text"] == "fine"


async def test_a_flood_of_metadata_is_refused(spawn: Any, dial: Any):
    port, backend = await spawn(Echo())
    channel = dial(port)
    await raw(channel)(b"", metadata=(("x", "y" * 40_000),))
    code, _ = await refused(raw(channel)(b"", metadata=(("x", "y" * 100_000),)))
    assert code is StatusCode.RESOURCE_EXHAUSTED
    assert (await backend.send("c", "w", {"text": "fine"}))["text"] == "fine"


# --- identity ---


class Who:
    async def execute(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event(message(str(context.principal)))


async def only_ada(credential: str) -> str | None:
    return "ada" if credential == "s3cret" else None


async def test_a_credential_makes_a_principal(spawn: Any):
    _, backend = await spawn(Who(), EndpointOptions(credential="s3cret"), authenticator=only_ada)
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "ada"
    assert [event["data"] async for event in backend.stream("c", "w", {"text": "q"})] == ["ada"]
    assert await backend.health_check("w")


@pytest.mark.parametrize("options", [None, EndpointOptions(credential="wrong")])
async def test_a_wrong_credential_is_an_auth_error(spawn: Any, options: EndpointOptions | None):
    _, backend = await spawn(Who(), options, authenticator=only_ada)
    for ask in (backend.send("c", "w", {"text": "q"}), backend.describe("w")):
        with pytest.raises(AuthError, match="credential"):
            await ask
    assert await backend.health_check("w")


async def test_every_method_of_ours_asks_for_the_credential(spawn: Any, dial: Any):
    port, _ = await spawn(Who(), authenticator=only_ada)
    channel = dial(port)
    for method in ("Send", "Running", "Cancel", "Describe"):
        code, told = await refused(raw(channel, method)(b""))
        assert (code, told["code"]) == (StatusCode.UNAUTHENTICATED, "auth")
    code, _ = await refused(channel.unary_stream(f"/{SERVICE}/Stream")(b"").read())
    assert code is StatusCode.UNAUTHENTICATED


async def test_a_message_is_its_principals_own(spawn: Any, dial: Any):
    async def anybody(credential: str) -> str | None:
        return credential

    gate = Gate()
    port, _ = await spawn(gate, authenticator=anybody)
    stub = agent_pb2_grpc.AgentStub(dial(port))
    ada, bob = ({"metadata": (("authorization", f"Bearer {name}"),)} for name in ("ada", "bob"))
    reference = agent_pb2.Reference(id="m-1")
    asked = asyncio.ensure_future(stub.Send(agent_pb2.Message(text="q", id="m-1"), **ada))
    await gate.started.wait()
    assert not (await stub.Running(reference, **bob)).running
    assert not (await stub.Cancel(reference, **bob)).cancelled
    assert (await stub.Running(reference, **ada)).running
    gate.open.set()
    assert (await asked).text == "answer 1"


@pytest.mark.parametrize("kind", ["slow", "broken"])
async def test_an_authenticator_that_fails_lets_nobody_in_and_tells_nothing(
    spawn: Any, dial: Any, kind: str, caplog: pytest.LogCaptureFixture
):
    async def authenticator(credential: str) -> str | None:
        if kind == "slow":
            await asyncio.Event().wait()
        raise ValueError("the table of keys is at /etc/secret")

    port, _ = await spawn(Who(), authenticator=authenticator, limits=HostLimits(body_deadline_s=0.1, stop_s=1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw(dial(port))(b"", metadata=(("authorization", "Bearer s3cret"),))
    assert caught.value.code() is StatusCode.INTERNAL
    assert "/etc/secret" not in repr(caught.value)
    assert "s3cret" not in caplog.text
    assert caplog.records[-1].levelname == "ERROR"


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
