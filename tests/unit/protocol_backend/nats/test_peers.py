"""Peers that are not ours or not there: what our client makes of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from unit.comm.agents import Agent, Echo, Gate, soon, until
from unit.protocol_backend.nats.servers import NatsServer, pretender, settled

from streaming_queue.comm import answer_limit
from streaming_queue.comm.base import EndpointOptions, HostLimits
from streaming_queue.comm.client import replies
from streaming_queue.comm.context import listening
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    BackendClosedError,
    CommError,
    ConfigError,
    ConnectError,
    ProtocolError,
    QuotaError,
    RateLimitedError,
    RemoteError,
)
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.nats import connecting, peer, request
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

Reply = Callable[[Msg], Awaitable[None]]
KEYED = {"text": "q", "metadata": {"idempotency_key": "k"}}


@pytest.fixture
async def backend(shared_server: NatsServer, make: Any) -> NatsCommBackend:
    backend = make()
    await backend.register_endpoint("w", f"{shared_server.url}/w")
    return backend


@pytest.fixture
async def answering(shared_server: NatsServer, plain: Any) -> Any:
    """`await answering(reply)`: a responder of nats-py alone at `w`."""
    client = await plain(shared_server.url)

    async def start(reply: Reply | bytes, subject: str = "w") -> Client:
        async def respond(message: Msg) -> None:
            await (client.publish(message.reply, reply) if isinstance(reply, bytes) else reply(message))

        await client.subscribe(subject, cb=respond)
        await settled(client)
        return client

    return start


def event(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


FINE = event(MESSAGE, data="fine")


async def send(backend: NatsCommBackend, payload: dict[str, Any] | None = None) -> Any:
    async with asyncio.timeout(8):
        return await backend.send("c", "w", payload or {"text": "q"})


async def stream(backend: NatsCommBackend) -> list[Any]:
    async with asyncio.timeout(8):
        return [event async for event in backend.stream("c", "w", {"text": "q"})]


# --- a responder that is not ours ---


async def test_a_plain_responder_answers(backend: NatsCommBackend, answering: Any):
    await answering(event(MESSAGE, data="fine", metadata={"llm_ms": 2}))
    await answering(b'{"status": "ok"}', "w.health")
    assert await send(backend) == {
        "raw": {"type": MESSAGE, "data": "fine", "metadata": {"llm_ms": 2}}, "text": "fine", "metadata": {"llm_ms": 2},
    }  # fmt: skip
    assert await stream(backend) == [{"type": MESSAGE, "data": "fine", "metadata": {"llm_ms": 2}}]
    assert await backend.health_check("w")
    await backend.connect("c", "w")


async def test_a_message_carries_what_the_options_say(shared_server: NatsServer, make: Any, answering: Any):
    messages: list[Msg] = []

    async def reply(message: Msg) -> None:
        messages.append(message)
        await message.respond(FINE)

    await answering(reply)
    await answering(reply, "other")
    backend = make(options={"w": EndpointOptions(credential="s3cret", headers={"x-team": "blue"})})
    await backend.register_endpoint("w", f"{shared_server.url}/w")
    await backend.register_endpoint("other", f"{shared_server.url}/other")
    metadata = {"mine": 1, "question_id": "问", "attempt": 2, "deadline_ms": 99, "idempotency_key": " k%"}
    await send(backend, {"text": "q", "metadata": metadata})
    await stream(backend)
    await backend.send("c", "other", {"text": "q"})
    sent, streamed, other = messages
    assert json.loads(sent.data) == {"text": "q", "metadata": {"mine": 1}}
    assert sent.headers == {
        "stq-question-id": "%E9%97%AE", "stq-attempt": "2", "stq-deadline-ms": "99", "idempotency-key": "%20k%25",
        "authorization": "Bearer s3cret", "x-team": "blue",
    }  # fmt: skip
    assert streamed.headers["stq-stream"] == "1"
    assert other.headers is None


@pytest.mark.parametrize("headers", [{"a b": "x"}, {"a": "x\ny"}, {"a": " x"}, {"": "x"}])
async def test_a_header_that_cannot_be_sent_is_refused(make: Any, headers: dict[str, str]):
    backend = make(options={"w": EndpointOptions(headers=headers)})
    with pytest.raises(ConfigError, match="cannot be sent"):
        await backend.register_endpoint("w", "nats://h/w")


@pytest.mark.parametrize(
    "reply",
    [b"", b"{", b"<html>", b"[]", b"1", b"\xff", b"{}", b'{"text": "fine"}', event(MESSAGE), event(MESSAGE, data=1),
     event(MESSAGE, data="x", metadata=1), event(DELTA, data=None), event("other", data="x")],
    ids=range(13),
)  # fmt: skip
async def test_garbage_is_a_protocol_error_that_may_be_tried_elsewhere(
    backend: NatsCommBackend, answering: Any, reply: bytes, shared_server: NatsServer
):
    await answering(reply)
    for asking in (send(backend), stream(backend)):
        with pytest.raises(ProtocolError, match=f"{shared_server.url}/w") as caught:
            await asking
        assert caught.value.retryable is True


async def test_what_a_stranger_says_in_an_error_cannot_steer_a_terminal(backend: NatsCommBackend, answering: Any):
    await answering(b"\x1b[2J" + b"x" * 1000)
    with pytest.raises(ProtocolError) as caught:
        await send(backend)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("fields", "cls", "retryable"),
    [
        ({"code": "quota", "message": "empty"}, QuotaError, False),
        ({"code": "rate_limited", "message": "slow", "retry_after_s": 2}, RateLimitedError, True),
        ({"code": "who knows", "message": "hm"}, RemoteError, True),
        ({"code": "agent_failed", "retryable": False}, AgentFailedError, False),
    ],
)
async def test_an_error_is_raised_as_its_class(
    backend: NatsCommBackend, answering: Any, fields: Any, cls: type[CommError], retryable: bool
):
    await answering(event("agent_error", **fields))
    for asking in (send(backend), stream(backend)):
        with pytest.raises(cls, match="/w: ") as caught:
            await asking
        assert (type(caught.value), caught.value.retryable) == (cls, retryable)
        assert caught.value.retry_after_s == fields.get("retry_after_s")


async def test_events_come_in_order_and_signs_of_life_are_heard(backend: NatsCommBackend, answering: Any):
    events = [event("agent_heartbeat"), event(STATUS, data="s", metadata={"done": 1})]
    events += [event(DELTA, data=str(number)) for number in range(1000)]

    async def reply(message: Msg) -> None:
        for item in (*events, FINE):
            await message.respond(item)

    await answering(reply)
    signs = 0

    def count() -> None:
        nonlocal signs
        signs += 1

    with listening(count):
        assert (await send(backend))["text"] == "fine"
        assert signs == 1003
        received = await stream(backend)
    assert received[0] == {"type": STATUS, "data": "s", "metadata": {"done": 1}}
    assert [item["data"] for item in received[1:]] == [*map(str, range(1000)), "fine"]


async def test_an_answer_without_end_is_given_up_and_cancelled(
    backend: NatsCommBackend, answering: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(answer_limit, "MAX_ANSWER_BYTES", 100_000)
    cancelled = asyncio.Event()

    async def flood(message: Msg) -> None:
        for _ in range(200):
            await message.respond(event(DELTA, data="x" * 1000))

    async def cancel(_: Msg) -> None:
        cancelled.set()

    await answering(flood)
    await answering(cancel, "w.cancel")
    with pytest.raises(ProtocolError, match="over the limit of 100000 bytes") as caught:
        await stream(backend)
    assert caught.value.retryable is True
    async with asyncio.timeout(1):
        await cancelled.wait()


async def test_a_reader_that_is_slow_holds_no_more_than_the_limit(
    backend: NatsCommBackend, answering: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(replies, "UNREAD_BYTES", 100_000)

    async def flood(message: Msg) -> None:
        for _ in range(300):
            await message.respond(event(DELTA, data="x" * 1000))

    await answering(flood)
    read = 0
    with pytest.raises(ProtocolError, match="over the limit"):
        async for _ in backend.stream("c", "w", {"text": "q"}):
            read += 1
            await asyncio.sleep(0.005)
    assert 0 < read < 100


async def test_a_peer_that_never_answers_is_left_within_a_second(backend: NatsCommBackend, answering: Any):
    cancels: list[str] = []

    async def silent(message: Msg) -> None:
        cancels.append(message.reply)

    await answering(silent)
    await answering(silent, "w.cancel")
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await backend.send("c", "w", {"text": "q"})
    assert time.monotonic() - started < 1.4
    assert len(cancels) == 2
    assert len(set(cancels)) == 1


async def test_a_cancel_that_nobody_listens_for_costs_no_time(backend: NatsCommBackend, answering: Any):
    async def silent(_: Msg) -> None: ...

    await answering(silent)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await backend.send("c", "w", {"text": "q"})
    assert time.monotonic() - started < 0.4


@pytest.mark.parametrize("reply", [b"", b"{", b"[]", b'{"status": "draining"}', b'{"status": 1}'])
async def test_who_does_not_say_ok_is_not_healthy(backend: NatsCommBackend, answering: Any, reply: bytes):
    await answering(reply, "w.health")
    assert not await backend.health_check("w")


async def test_an_agent_says_what_it_is_to_who_has_the_right_credential(
    shared_server: NatsServer, make: Any, backend: NatsCommBackend
):
    async def authenticator(credential: str) -> str | None:
        return {"s3cret": "me"}.get(credential)

    handle = await make(shared_server.url, authenticator=authenticator).spawn_local_agent("w", "", 0, Echo())
    for options in ({"w": EndpointOptions(credential="wrong-one")}, None):
        stranger = make(options=options)
        await stranger.register_endpoint("w", handle.base_url)
        assert await stranger.health_check("w")
        with pytest.raises(AuthError, match=handle.base_url) as caught:
            await stranger.describe("w")
        assert "wrong-one" not in str(caught.value)
    friend = make(options={"w": EndpointOptions(credential="s3cret")})
    await friend.register_endpoint("w", handle.base_url)
    assert await friend.describe("w") == {"status": "ok", "agent_id": "w"}
    with pytest.raises(ConnectError):
        await backend.describe("w")


async def test_a_description_that_is_none_is_a_protocol_error(backend: NatsCommBackend, answering: Any):
    await answering(b"<html>", "w.health")
    with pytest.raises(ProtocolError, match="<html>"):
        await backend.describe("w")


async def test_a_probe_without_an_answer_is_bounded(backend: NatsCommBackend, answering: Any):
    async def silent(_: Msg) -> None: ...

    await answering(silent, "w.health")
    started = time.monotonic()
    assert not await backend.health_check("w")
    assert time.monotonic() - started < 1.5


# --- nobody there ---


async def test_no_responder_is_a_connection_error_at_once(backend: NatsCommBackend, shared_server: NatsServer):
    started = time.monotonic()
    for asking in (send(backend), send(backend, KEYED), stream(backend)):
        with pytest.raises(ConnectError, match=f"{shared_server.url}/w: no agent listens there") as caught:
            await asking
        assert caught.value.retryable is True
    assert not await backend.health_check("w")
    await backend.connect("c", "w")
    assert time.monotonic() - started < 0.5


async def test_no_server_is_a_connection_error_at_once(make: Any):
    backend = make()
    await backend.register_endpoint("w", "nats://127.0.0.1:9/w")
    started = time.monotonic()
    for asking in (send(backend), send(backend, KEYED), stream(backend), backend.connect("c", "w")):
        with pytest.raises(ConnectError, match=r"nats://127\.0\.0\.1:9: cannot connect"):
            await asking
    assert not await backend.health_check("w")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO nonsense\r\n", b"INFO []\r\n", b"\r\n", b"x" * 200_000 + b"\r\n"],
)
async def test_what_is_no_nats_server_is_a_protocol_error(make: Any, greeting: bytes):
    backend = make()
    async with pretender(greeting) as (port, _):
        await backend.register_endpoint("w", f"nats://127.0.0.1:{port}/w")
        with pytest.raises(ProtocolError, match="not a NATS server"):
            await send(backend)
        await backend.close()


async def test_what_stops_being_a_nats_server_is_a_protocol_error_at_once(make: Any):
    greeting = b'INFO {"headers": true, "max_payload": 1000}\r\n'
    async with pretender(greeting, pong=b"220 mail.example ESMTP ready\r\n") as (port, _):
        backend = make()
        await backend.register_endpoint("w", f"nats://127.0.0.1:{port}/w")
        started = time.monotonic()
        with pytest.raises(ProtocolError, match="not a NATS server"):
            await send(backend)
        assert time.monotonic() - started < 1
        await backend.close()


async def test_a_server_that_hangs_up_or_says_nothing_is_typed(make: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connecting, "CONNECT_TIMEOUT_S", 0.2)
    backend = make()
    async with pretender(b"", hang_up=True) as (closing, _), pretender(b"") as (silent, _):
        await backend.register_endpoint("w", f"nats://127.0.0.1:{closing}/w")
        with pytest.raises(CommError):
            await send(backend)
        await backend.register_endpoint("w", f"nats://127.0.0.1:{silent}/w")
        with pytest.raises(ConnectError, match=r"no connection within 0\.2 s"):
            await send(backend)
        await backend.close()


async def test_an_agent_is_ready_only_when_the_server_knows_its_subjects(make: Any):
    async with pretender(b'INFO {"headers": true, "max_payload": 1000}\r\n') as (port, told):
        backend = make(f"nats://127.0.0.1:{port}")
        await backend.spawn_local_agent("w", "", 0, Echo())
        said = b"".join(told)
        assert b"SUB t.w stq" in said.rpartition(b"PING\r\n")[0]
        await backend.close()


# --- a server that goes ---


async def pair(make: Any, server: NatsServer, executor: Any) -> NatsCommBackend:
    """A client, and in a backend of its own the host that it asks."""
    handle = await make(server.url).spawn_local_agent("w", "", 0, executor)
    backend: NatsCommBackend = make()
    await backend.register_endpoint("w", handle.base_url)
    await backend.connect("c", "w")
    return backend


async def test_a_server_that_dies_loses_what_has_no_key(server: NatsServer, make: Any):
    gate = Gate()
    backend = await pair(make, server, gate)
    asking = [asyncio.create_task(send(backend)), asyncio.create_task(stream(backend))]
    await soon(lambda: gate.runs == 2)
    server.kill()
    started = time.monotonic()
    for task in asking:
        with pytest.raises(ConnectError, match=server.url) as caught:
            await task
        assert caught.value.retryable is True
    assert time.monotonic() - started < 0.5
    await soon(lambda: gate.cancelled == 2)


async def is_away(backend: NatsCommBackend) -> bool:
    return not await backend.health_check("w")


async def test_a_question_with_a_key_is_asked_again_when_the_server_is_back_and_runs_once(
    server: NatsServer, make: Any, monkeypatch: pytest.MonkeyPatch
):
    gate = Gate()
    handle = await make(server.url, limits=HostLimits(disconnect_grace_s=10)).spawn_local_agent("w", "", 0, gate)
    backend = make()
    await backend.register_endpoint("w", handle.base_url)
    asking = asyncio.create_task(send(backend, KEYED))
    await gate.started.wait()
    server.kill()
    await until(partial(is_away, backend))
    server.start()
    gate.open.set()
    assert (await asking)["text"] == "answer 1"
    assert gate.runs == 1


async def test_a_stream_with_a_key_goes_on_where_it_was(server: NatsServer, make: Any):
    go_on = asyncio.Event()

    async def behave(context: Any, queue: Any) -> None:
        for number in range(10):
            if number == 5:
                await go_on.wait()
            await queue.enqueue_event({"type": DELTA, "data": f"{number},"})

    handle = await make(server.url, limits=HostLimits(disconnect_grace_s=10)).spawn_local_agent(
        "w", "", 0, Agent(behave)
    )
    backend = make()
    await backend.register_endpoint("w", handle.base_url)
    events = []
    async for item in backend.stream("c", "w", KEYED):
        events.append(item["data"])
        if item["data"] == "4,":
            server.kill()
            await until(partial(is_away, backend))
            server.start()
            asyncio.get_running_loop().call_later(1.5, go_on.set)
    assert events == [*(f"{number}," for number in range(10)), "0,1,2,3,4,5,6,7,8,9,"]


async def test_a_server_that_stays_away_is_waited_for_no_longer_than_that(
    server: NatsServer, make: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(peer, "PATIENCE_S", 0.5)
    gate = Gate()
    backend = await pair(make, server, gate)
    asking = asyncio.create_task(send(backend, KEYED))
    await gate.started.wait()
    server.kill()
    started = time.monotonic()
    with pytest.raises(ConnectError, match=server.url):
        await asking
    assert 0.2 < time.monotonic() - started < 1.5
    server.start()
    gate.open.set()
    await until(partial(backend.health_check, "w"))
    assert (await send(backend))["text"].startswith("answer")


async def test_a_server_that_hangs_is_found_out_by_ping(server: NatsServer, make: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connecting, "PING_S", 1)
    gate = Gate()
    backend = await pair(make, server, gate)
    asking = asyncio.create_task(send(backend))
    await gate.started.wait()
    server.pause()
    started = time.monotonic()
    with pytest.raises(ConnectError, match="the connection broke"):
        await asking
    assert time.monotonic() - started < 5


async def test_closing_is_bounded_though_the_server_reads_nothing(server: NatsServer, make: Any):
    gate = Gate()
    backend = await pair(make, server, gate)
    server.pause()
    asking = [asyncio.create_task(backend.send("c", "w", {"text": "x" * 900_000})) for _ in range(20)]
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await backend.close()
    assert time.monotonic() - started < 1.5
    for task in asking:
        with pytest.raises(BackendClosedError):
            await task


async def test_closing_ends_what_is_under_way(backend: NatsCommBackend, answering: Any):
    asked: list[Msg] = []

    async def silent(message: Msg) -> None:
        asked.append(message)

    await answering(silent)
    asking = [asyncio.create_task(send(backend, KEYED)), asyncio.create_task(stream(backend))]
    await soon(lambda: len(asked) == 2)
    await backend.close()
    for task in asking:
        with pytest.raises(BackendClosedError):
            await task


async def test_closing_ends_a_connection_that_is_being_made(backend: NatsCommBackend, answering: Any, monkeypatch):
    async def silent(_: Msg) -> None: ...

    await answering(silent)
    flushing = asyncio.Event()

    async def flush(self: Client, timeout: int) -> None:  # noqa: ASYNC109  (as the library has it)
        flushing.set()
        await asyncio.sleep(timeout)
        raise errors.FlushTimeoutError

    monkeypatch.setattr(Client, "flush", flush)
    asking = asyncio.create_task(send(backend, KEYED))
    await flushing.wait()
    began = asyncio.get_running_loop().time()
    await backend.close()
    with pytest.raises(BackendClosedError):
        await asking
    assert asyncio.get_running_loop().time() - began < 3


# --- a host that goes ---


async def test_a_host_that_says_nothing_for_long_is_lost(
    backend: NatsCommBackend, answering: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(request, "SILENCE_S", 0.2)
    asked: list[str] = []

    async def reply(message: Msg) -> None:
        asked.append(message.reply)
        await message._client.publish(message.reply, event("agent_heartbeat"), reply="somewhere.1")

    client = await answering(reply)
    await client.subscribe("somewhere.*")
    await settled(client)
    with pytest.raises(ConnectError, match=r"was silent for 0\.2 s"):
        await send(backend, KEYED)
    assert len(asked) == 2


async def test_a_host_that_gave_no_sign_is_not_judged_by_its_silence(
    backend: NatsCommBackend, answering: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(request, "SILENCE_S", 0.2)

    async def reply(message: Msg) -> None:
        await asyncio.sleep(1.2)
        await message.respond(FINE)

    await answering(reply)
    assert (await send(backend))["text"] == "fine"


async def test_what_comes_for_nobody_is_answered_like_the_server_does(backend: NatsCommBackend, answering: Any):
    gone, read = asyncio.Event(), asyncio.Event()

    async def reply(message: Msg) -> None:
        await message.respond(FINE)
        await read.wait()
        await message._client.publish(message.reply, event("agent_heartbeat"), reply="somewhere.1")

    async def control(message: Msg) -> None:
        if message.headers == {"Status": "503"}:
            gone.set()

    await answering(reply)
    await answering(control, "somewhere.*")
    await send(backend)
    read.set()
    async with asyncio.timeout(1):
        await gone.wait()


async def test_a_message_too_large_for_the_server_is_refused_before_it_is_sent(tmp_path: Path, make: Any):
    with NatsServer(tmp_path, "max_payload: 1000") as server:
        backend = await pair(make, server, Echo())
        for payload in (
            {"text": "x" * 1000},
            {"text": "x", "metadata": {"idempotency_key": "k" * 1000}},
            {"text": "x", "metadata": {"idempotency_key": "k" * 420, "run_id": "r" * 420, "traceparent": "t" * 120}},
        ):
            for asking in (backend.send("c", "w", payload), anext(backend.stream("c", "w", payload))):
                with pytest.raises(ProtocolError, match="limit of 1000 bytes") as caught:
                    await asking
                assert caught.value.retryable is False
        for size in range(860, 960):
            try:
                assert (await backend.send("c", "w", {"text": "x" * size}))["text"] == "x" * size
            except ProtocolError as error:
                assert "limit of 1000 bytes" in str(error)  # noqa: PT017
        assert (await send(backend))["text"] == "q"
