"""What stands on the wire when we host."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from unit.comm.agents import LIMITS, Agent, Echo, Gate, message, soon
from unit.protocol_backend.grpc.peers import raw, refused

from streaming_queue.errors import ERRORS_BY_CODE, ConnectError, RateLimitedError, StreamingQueueError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.grpc import agent_pb2, agent_pb2_grpc
from streaming_queue.protocol_backend.grpc.codec import SERVICE
from streaming_queue.protocol_backend.grpc.statuses import ERROR_KEY, MAX_TEXT_BYTES, PUSHBACK_KEY, STATUS_BY_CODE

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVING = health_pb2.HealthCheckResponse.SERVING

# --- what others find ---


async def test_the_generated_stub_is_answered(spawn: Any, dial: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": STATUS, "data": "thinking", "metadata": {"done": 1}})
        await queue.enqueue_event({"type": DELTA, "data": "Par"})
        await queue.enqueue_event(message(context.get_user_input(), metadata={"llm_ms": 1.5, "count": 2**60}))

    port, _ = await spawn(Agent(behave))
    stub = agent_pb2_grpc.AgentStub(dial(port))
    answer = await stub.Send(agent_pb2.Message(text="Paris"))
    assert answer.text == "Paris"
    assert json.loads(answer.metadata_json) == {"llm_ms": 1.5, "count": 2**60}
    parts = [agent_pb2.Part(text="a"), agent_pb2.Part(text="b")]
    events = [event async for event in stub.Stream(agent_pb2.Message(parts=parts))]
    assert [event.WhichOneof("event") for event in events] == ["status", "delta", "answer"]
    assert json.loads(events[0].status.metadata_json) == {"done": 1}
    assert events[-1].answer.text == "a\nb"


async def test_a_client_that_knows_only_the_address_asks_by_reflection(spawn: Any):
    port, _ = await spawn(Echo())

    def ask() -> tuple[Any, ...]:
        import grpc_requests

        client = grpc_requests.Client.get_by_endpoint(f"127.0.0.1:{port}")
        agent = client.service(SERVICE)
        return (
            client.service_names,
            agent.Send({"text": "hello"}),
            list(agent.Stream({"parts": [{"text": "a"}, {"text": "b"}]})),
            client.request("grpc.health.v1.Health", "Check", {"service": SERVICE}),
        )

    names, answer, events, health = await asyncio.to_thread(ask)
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= set(names)
    assert answer["text"] == "hello"
    assert [event["answer"]["text"] for event in events] == ["a\nb"]
    assert health == {"status": "SERVING"}


async def test_health_by_the_stock_stub(spawn: Any, dial: Any):
    port, _ = await spawn(Echo())
    stub = health_pb2_grpc.HealthStub(dial(port))
    for service in ("", SERVICE):
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING
    code, _ = await refused(stub.Check(health_pb2.HealthCheckRequest(service="other")))
    assert code is StatusCode.NOT_FOUND
    listed = (await stub.List(health_pb2.HealthListRequest())).statuses
    assert {service: entry.status for service, entry in listed.items()} == {"": SERVING, SERVICE: SERVING}
    watching = stub.Watch(health_pb2.HealthCheckRequest(service="other"))
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watching.cancel()


async def test_an_executor_that_is_not_ready_is_not_serving(spawn: Any, dial: Any):
    executor: Any = Echo()
    executor.ready = False
    port, backend = await spawn(executor)
    watching = health_pb2_grpc.HealthStub(dial(port)).Watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == NOT_SERVING
    assert not await backend.health_check("w")
    executor.ready = True
    assert await backend.health_check("w")
    async with asyncio.timeout(2):
        assert (await watching.read()).status == SERVING
    watching.cancel()


async def test_an_agent_that_drains_is_not_serving_and_takes_no_question(spawn: Any, dial: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    stub = health_pb2_grpc.HealthStub(dial(port))
    watching = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == SERVING
    (agent,) = backend._agents
    asked = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
    await gate.started.wait()
    draining = asyncio.create_task(agent.drain(5))
    async with asyncio.timeout(2):
        assert (await watching.read()).status == NOT_SERVING
    watching.cancel()
    for service in ("", SERVICE):
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == NOT_SERVING
    assert not await backend.health_check("w")
    with pytest.raises(ConnectError, match="drains"):
        await backend.send("c", "w", {"text": "another"})
    gate.open.set()
    await draining
    assert (await asked)["text"] == "answer 1"


# --- failures ---


@pytest.mark.parametrize("cls", ERRORS_BY_CODE.values(), ids=ERRORS_BY_CODE)
async def test_every_error_has_a_status_and_the_whole_event(spawn: Any, dial: Any, cls: type[StreamingQueueError]):
    async def behave(context: Any, queue: Any) -> None:
        raise cls("too bad 坏", retry_after_s=2.25)

    port, _ = await spawn(Agent(behave))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw(dial(port))(b"")
    error = caught.value
    assert (error.code(), error.details()) == (STATUS_BY_CODE[cls.code], "too bad 坏")
    trailers = dict(error.trailing_metadata())
    assert json.loads(trailers[ERROR_KEY]) == {
        "type": "agent_error",
        "code": cls.code,
        "message": "too bad 坏",
        "retryable": cls.retryable,
        "retry_after_s": 2.25,
    }
    assert trailers[PUSHBACK_KEY] == "2250"


async def test_a_long_error_fits_into_metadata(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        raise RateLimitedError("坏" * 100_000 + "\ud800")

    _, backend = await spawn(Agent(behave))
    with pytest.raises(RateLimitedError, match=r"坏{900,} \.\.\.$") as caught:
        await backend.send("c", "w", {"text": "q"})
    assert len(str(caught.value).encode()) < MAX_TEXT_BYTES + 100


@pytest.mark.parametrize(
    "event",
    [
        message("x", metadata={"when": object()}),
        message("\ud800"),
    ],
    ids=["metadata", "text"],
)
async def test_what_cannot_be_sent_is_the_agents_failure(spawn: Any, dial: Any, event: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(event)

    port, _ = await spawn(Agent(behave))
    channel = dial(port)
    calls = (raw(channel)(b""), channel.unary_stream(f"/{SERVICE}/Stream")(b"").read())
    for call in calls:
        code, told = await refused(call)
        assert (code, told["code"]) == (StatusCode.INTERNAL, "agent_failed")
        assert "cannot be sent" in told["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff\xff",
        b"\x0a\x05abc",
        b"\x0a\x02\xff\xfe",
        *(
            agent_pb2.Message(text="x", metadata_json=text).SerializeToString()
            for text in ("{", "[]", "5", '{"x": NaN}', '{"a": 1, "a": 2}', '{"a":' * 2000, "[" * 100_000)
        ),
    ],
    ids=range(10),
)
async def test_what_is_no_message_is_refused(spawn: Any, dial: Any, body: bytes):
    port, backend = await spawn(Echo())
    code, told = await refused(raw(dial(port))(body))
    assert (code, told["code"], told["retryable"]) == (StatusCode.INVALID_ARGUMENT, "protocol", False)
    assert (await backend.send("c", "w", {"text": "fine"}))["text"] == "fine"


async def test_a_call_without_a_message_and_one_that_is_not_served(spawn: Any, dial: Any):
    port, _ = await spawn(Echo())
    channel = dial(port)

    async def nothing():
        return
        yield

    code, told = await refused(channel.stream_unary(f"/{SERVICE}/Send")(nothing()))
    assert (code, told["code"]) == (StatusCode.INVALID_ARGUMENT, "protocol")
    code, told = await refused(raw(channel, "Fly")(b""))
    assert (code, told) == (StatusCode.UNIMPLEMENTED, None)


# --- what rides along ---


async def test_the_calls_context_is_in_metadata_and_the_rest_in_the_message(spawn: Any, dial: Any):
    seen: list[Any] = []

    async def behave(context: Any, queue: Any) -> None:
        seen.append((context.metadata, context.deadline))
        await queue.enqueue_event(message("x"))

    port, _ = await spawn(Agent(behave))
    metadata = (
        ("stq-question-id", "%E9%97%AE"),
        ("stq-attempt", "2"),
        ("stq-hops", "many"),
        ("idempotency-key", "k"),
        ("x-other", "no business of ours"),
    )
    body = agent_pb2.Message(text="q", metadata_json='{"mine": [1, 2.5]}').SerializeToString()
    await raw(dial(port))(body, metadata=metadata)
    assert seen == [
        ({"question_id": "问", "attempt": 2, "hops": "many", "idempotency_key": "k", "mine": [1, 2.5]}, None)
    ]


async def test_the_calls_deadline_is_the_questions(spawn: Any, dial: Any):
    gate, deadlines = Gate(), []

    async def behave(context: Any, queue: Any) -> None:
        deadlines.append(context.deadline - time.monotonic())
        await gate.execute(context, queue)

    port, _ = await spawn(Agent(behave))
    code, _ = await refused(raw(dial(port))(b"", timeout=0.3, metadata=(("idempotency-key", "k"),)))
    assert code is StatusCode.DEADLINE_EXCEEDED
    assert 0.1 < deadlines[0] <= 0.3
    await soon(lambda: gate.cancelled == 1)


async def test_a_command_outlives_the_calls_deadline(spawn: Any, dial: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    code, _ = await refused(raw(dial(port))(b"", timeout=0.1, metadata=(("stq-kind", "command"),)))
    assert code is StatusCode.DEADLINE_EXCEEDED
    await asyncio.sleep(0.2)
    assert not gate.ended.is_set()
    gate.open.set()
    await gate.ended.wait()
    assert gate.cancelled == 0


# --- leaving, coming back, cancelling ---


@pytest.mark.parametrize("leave", ["cancel", "break"])
@pytest.mark.parametrize("method", ["Send", "Stream"])
async def test_a_message_with_a_key_goes_on_within_the_grace(spawn: Any, dial: Any, leave: str, method: str):
    gate = Gate()
    port, _ = await spawn(gate)
    channel = dial(port)
    keyed = {"metadata": (("idempotency-key", "k"),)}
    make = channel.unary_unary if method == "Send" else channel.unary_stream
    call = make(f"/{SERVICE}/{method}")(b"", **keyed)
    await gate.started.wait()
    if leave == "cancel":
        call.cancel()
    else:
        await channel.close()
    await asyncio.sleep(0.1)
    back = asyncio.ensure_future(raw(dial(port))(b"", **keyed))
    await asyncio.sleep(LIMITS.disconnect_grace_s + 0.1)
    gate.open.set()
    assert agent_pb2.Answer.FromString(await back).text == "answer 1"
    assert agent_pb2.Answer.FromString(await raw(dial(port))(b"", **keyed)).text == "answer 1"
    assert (gate.runs, gate.cancelled) == (1, 0)


async def test_after_the_grace_the_question_is_cancelled(spawn: Any, dial: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    call = raw(dial(port))(b"", metadata=(("idempotency-key", "k"),))
    await gate.started.wait()
    call.cancel()
    left = time.monotonic()
    await soon(lambda: gate.cancelled == 1)
    assert time.monotonic() - left >= LIMITS.disconnect_grace_s - 0.05


@pytest.mark.parametrize("leave", ["cancel", "break"])
async def test_without_a_key_nobody_can_come_back(spawn: Any, dial: Any, leave: str):
    gate = Gate()
    port, _ = await spawn(gate)
    channel = dial(port)
    call = raw(channel)(b"")
    await gate.started.wait()
    left = time.monotonic()
    if leave == "cancel":
        call.cancel()
    else:
        await channel.close()
    await soon(lambda: gate.cancelled == 1)
    assert time.monotonic() - left < LIMITS.disconnect_grace_s / 2


async def test_the_key_of_another_text_is_refused(spawn: Any, dial: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    send, keyed = raw(dial(port)), {"metadata": (("idempotency-key", "k"),)}
    first = asyncio.ensure_future(send(agent_pb2.Message(text="one").SerializeToString(), **keyed))
    await gate.started.wait()
    code, told = await refused(send(agent_pb2.Message(text="two").SerializeToString(), **keyed))
    assert (code, told["code"]) == (StatusCode.INVALID_ARGUMENT, "protocol")
    gate.open.set()
    assert agent_pb2.Answer.FromString(await first).text == "answer 1"


async def test_a_message_is_known_by_its_id_while_it_is_at_work(spawn: Any, dial: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    stub = agent_pb2_grpc.AgentStub(dial(port))
    reference = agent_pb2.Reference(id="m-1")
    assert not (await stub.Running(reference)).running
    asked = asyncio.ensure_future(stub.Send(agent_pb2.Message(text="q", id="m-1")))
    await gate.started.wait()
    assert (await stub.Running(reference)).running
    assert not (await stub.Running(agent_pb2.Reference(id=""))).running
    assert (await stub.Cancel(reference)).cancelled
    code, told = await refused(asked)
    assert (code, told["code"], gate.cancelled) == (StatusCode.INTERNAL, "agent_failed", 1)
    assert not (await stub.Running(reference)).running
    assert not (await stub.Cancel(reference)).cancelled


async def test_a_command_is_not_cancelled(spawn: Any, dial: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    stub = agent_pb2_grpc.AgentStub(dial(port))
    asked = asyncio.ensure_future(
        stub.Send(agent_pb2.Message(text="dispatch", id="m-1"), metadata=(("stq-kind", "command"),))
    )
    await gate.started.wait()
    assert not (await stub.Cancel(agent_pb2.Reference(id="m-1"))).cancelled
    gate.open.set()
    assert (await asked).text == "answer 1"


async def test_a_silent_stream_is_kept_alive(spawn: Any, dial: Any, monkeypatch: pytest.MonkeyPatch):
    gate = Gate()
    port, _ = await spawn(gate)
    from streaming_queue.protocol_backend.grpc import service

    monkeypatch.setattr(service, "HEARTBEAT_S", 0.02)
    stub = agent_pb2_grpc.AgentStub(dial(port))
    events = stub.Stream(agent_pb2.Message(text="q"))
    async with asyncio.timeout(5):
        for _ in range(3):
            assert (await events.read()).WhichOneof("event") is None
        gate.open.set()
        while (event := await events.read()).WhichOneof("event") is None:
            pass
    assert event.answer.text == "answer 1"


async def test_events_are_told_apart(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": STATUS, "data": "", "metadata": {"done": 1}})
        await queue.enqueue_event({"type": DELTA, "data": ""})
        await queue.enqueue_event(message(""))

    _, backend = await spawn(Agent(behave))
    assert [event async for event in backend.stream("c", "w", {"text": "q"})] == [
        {"type": STATUS, "data": "", "metadata": {"done": 1}},
        {"type": DELTA, "data": ""},
        {"type": MESSAGE, "data": ""},
    ]
