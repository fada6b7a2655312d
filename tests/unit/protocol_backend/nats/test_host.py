"""What a client that is not ours, nats-py alone, sees of an agent that we host (docs/protocols/nats.md)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from unit.comm.agents import LIMITS, Agent, Echo, Gate, Stubborn, message, soon, until
from unit.protocol_backend.nats.servers import NatsServer, settled

from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.context import annotate
from streaming_queue.errors import RateLimitedError
from streaming_queue.messages import DELTA, ERROR, MESSAGE, STATUS
from streaming_queue.protocol_backend.nats import host

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

W = "t.w"


@pytest.fixture
async def client(shared_server: NatsServer, plain: Any) -> Client:
    return await plain(shared_server.url)


@pytest.fixture
def spawn(shared_server: NatsServer, make: Any) -> Any:
    async def spawn(executor: Any, **host_options: Any) -> Any:
        return await make(shared_server.url, **host_options).spawn_local_agent("w", "", 0, executor)

    return spawn


async def ask(client: Client, document: Any, subject: str = W, **headers: str) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    await client.publish(subject, body, reply=inbox, headers=fields or None)
    try:
        while True:
            message = await replies.next_msg(timeout=5)
            if (message.headers or {}).get("Status") == "503":
                raise NoRespondersError
            if (reply := json.loads(message.data)).get("type") != "agent_heartbeat":  # as a busy machine's host sends
                return reply
    finally:
        await replies.unsubscribe()


class Listener:
    """All that comes back for one message."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.inbox = client.new_inbox()

    async def send(self, document: Any, **headers: str) -> Listener:
        self.replies = await self.client.subscribe(self.inbox)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.client.publish(W, json.dumps(document).encode(), reply=self.inbox, headers=fields or None)
        return self

    async def next(self) -> Any:
        self.last = await self.replies.next_msg(timeout=5)
        return json.loads(self.last.data)

    async def rest(self) -> list[Any]:
        events = [await self.next()]
        while events[-1]["type"] not in (MESSAGE, ERROR):
            events.append(await self.next())
        return events

    async def cancel(self) -> None:
        await self.client.publish(f"{W}.cancel", reply=self.inbox)

    async def leave(self) -> None:
        await self.replies.unsubscribe()
        await settled(self.client)


# --- a message and its answer ---


async def test_a_message_and_its_answer(spawn: Any, client: Client, shared_server: NatsServer):
    handle = await spawn(Echo())
    assert handle.base_url == f"{shared_server.url}/{W}"
    assert await ask(client, {"text": "你好", "later": 1}) == {"type": MESSAGE, "data": "你好"}
    assert (await ask(client, {"parts": [{"kind": "text", "text": "a"}, {"kind": "text", "text": "b"}]}))[
        "data"
    ] == "a\nb"


async def test_what_rides_along(spawn: Any, client: Client):
    seen: list[Any] = []

    async def behave(context: Any, queue: Any) -> None:
        seen.append((dict(context.metadata), context.call_context.kind, context.streaming))
        annotate(llm_ms=1.5)
        await queue.enqueue_event(message("x"))

    await spawn(Agent(behave))
    answer = await ask(client, {"text": "q", "metadata": {"mine": 1}}, stq_kind="command", stq_question_id="%E9%97%AE")
    assert answer == {"type": MESSAGE, "data": "x", "metadata": {"llm_ms": 1.5}}
    assert seen == [({"mine": 1, "kind": "command", "question_id": "问"}, "command", False)]


async def test_health_costs_no_work(spawn: Any, client: Client):
    gate = Gate()
    await spawn(gate)
    assert json.loads((await client.request(f"{W}.health")).data) == {"status": "ok", "agent_id": "w"}
    assert gate.runs == 0


async def test_an_executor_that_is_not_ready_is_not_healthy(spawn: Any, client: Client):
    echo = Echo()
    await spawn(echo)
    echo.ready = False
    assert json.loads((await client.request(f"{W}.health")).data) == {"status": "draining", "agent_id": "w"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b'"text"', b"\xff", b"{}", b'{"text": 1}', b'{"parts": "x"}', b'{"text": "a", "text": "b"}',
     b'{"text": "x", "metadata": 1}', b'{"text": "x", "metadata": {"a": NaN}}', b"[" * 100_000],
    ids=range(13),
)  # fmt: skip
async def test_what_is_no_message_is_an_error_of_its_sender(spawn: Any, client: Client, body: bytes):
    await spawn(Echo())
    event = await ask(client, body)
    assert (event["type"], event["code"], event["retryable"]) == (ERROR, "protocol", False)
    assert (await ask(client, {"text": "fine"}))["data"] == "fine"


async def test_a_message_over_the_limit_is_an_error_of_its_sender(spawn: Any, client: Client):
    await spawn(Echo(), limits=HostLimits(body_bytes=100))
    event = await ask(client, {"text": "x" * 100})
    assert (event["code"], event["retryable"]) == ("protocol", False)
    assert "100 bytes" in event["message"]
    assert (await ask(client, {"text": "x"}))["data"] == "x"


async def test_a_message_that_wants_no_answer_is_not_answered(spawn: Any, client: Client):
    gate = Gate()
    await spawn(gate)
    await client.publish(W, b'{"text": "q"}')
    gate.open.set()
    assert (await ask(client, {"text": "q"}))["data"] == "answer 1"


async def test_an_error_is_an_event(spawn: Any, client: Client):
    async def behave(context: Any, queue: Any) -> None:
        if context.get_user_input() == "typed":
            raise RateLimitedError("slow down", retry_after_s=2.5)
        raise ValueError("key sk-123 is bad")

    await spawn(Agent(behave))
    assert await ask(client, {"text": "typed"}) == {
        "type": ERROR, "code": "rate_limited", "message": "slow down", "retryable": True, "retry_after_s": 2.5,
    }  # fmt: skip
    event = await ask(client, {"text": "foreign"})
    assert event["code"] == "agent_failed"
    assert "sk-123" not in event["message"]


# --- streams and signs of life ---


async def test_a_stream_is_a_reply_for_each_event(spawn: Any, client: Client):
    async def behave(context: Any, queue: Any) -> None:
        assert context.streaming
        await queue.enqueue_event({"type": STATUS, "data": "looking", "metadata": {"done": 1}})
        for number in range(500):
            await queue.enqueue_event({"type": DELTA, "data": f"{number},"})
            if number % 100 == 0:
                await asyncio.sleep(0)

    await spawn(Agent(behave))
    events = await (await Listener(client).send({"text": "q"}, stq_stream="1")).rest()
    assert events[0] == {"type": "agent_heartbeat"}
    assert events[1] == {"type": STATUS, "data": "looking", "metadata": {"done": 1}}
    assert [event["data"] for event in events[2:-1]] == [f"{number}," for number in range(500)]
    assert events[-1] == {"type": MESSAGE, "data": "".join(f"{number}," for number in range(500))}


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_answer_that_is_long_in_coming_shows_signs_of_life(
    spawn: Any, client: Client, monkeypatch: pytest.MonkeyPatch, streaming: bool
):
    monkeypatch.setattr(host, "FIRST_SIGN_S", 0.02)
    monkeypatch.setattr(host, "HEARTBEAT_S", 0.05)
    gate = Gate()
    await spawn(gate)
    listener = await Listener(client).send({"text": "q"}, **({"stq_stream": "1"} if streaming else {}))
    for _ in range(4):
        assert await listener.next() == {"type": "agent_heartbeat"}
    gate.open.set()
    assert (await listener.rest())[-1]["data"] == "answer 1"


async def test_a_quick_answer_is_one_message_and_says_where_its_process_is(spawn: Any, client: Client):
    await spawn(Echo())
    first = await client.request(W, b'{"text": "q"}')
    second = await client.request(W, b'{"text": "q"}')
    assert json.loads(first.data)["type"] == MESSAGE
    control = first.reply.rpartition(".")[0]
    assert second.reply.rpartition(".")[0] == control != ""
    with pytest.raises(TimeoutError):  # whoever is there says nothing, and the server does not answer for it
        await client.request(f"{control}.0", timeout=0.1)


# --- leaving ---


async def test_a_cancel_ends_the_work_and_says_so(spawn: Any, client: Client):
    gate = Gate()
    await spawn(gate)
    listener = await Listener(client).send({"text": "q"})
    await gate.started.wait()
    await listener.cancel()
    (event,) = await listener.rest()
    assert (event["type"], event["code"]) == (ERROR, "agent_failed")
    assert gate.cancelled == 1


async def test_a_cancel_for_somebody_else_touches_nobody(spawn: Any, client: Client):
    gate = Gate()
    await spawn(gate)
    listener = await Listener(client).send({"text": "q"})
    await gate.started.wait()
    await client.publish(f"{W}.cancel", reply="_INBOX.another")
    await client.publish(f"{W}.cancel")
    await client.request(f"{W}.health")
    gate.open.set()
    assert (await listener.rest())[-1]["data"] == "answer 1"


async def test_a_cancel_does_not_take_the_answer_from_others_with_the_same_key(spawn: Any, client: Client):
    gate = Gate()
    await spawn(gate)
    listeners = [await Listener(client).send({"text": "q"}, idempotency_key="k") for _ in range(2)]
    await gate.started.wait()
    await soon(lambda: gate.runs == 1)
    await asyncio.sleep(0.05)
    await listeners[0].cancel()
    assert (await listeners[0].rest())[-1]["type"] == ERROR
    gate.open.set()
    assert (await listeners[1].rest())[-1]["data"] == "answer 1"
    assert gate.cancelled == 0


async def test_a_command_is_not_cancelled(spawn: Any, client: Client):
    gate = Gate()
    await spawn(gate)
    listener = await Listener(client).send({"text": "dispatch"}, stq_kind="command")
    await gate.started.wait()
    await listener.cancel()
    await client.request(f"{W}.health")
    await listener.leave()
    await asyncio.sleep(LIMITS.disconnect_grace_s + 0.1)
    assert not gate.ended.is_set()
    gate.open.set()
    await gate.ended.wait()
    assert gate.cancelled == 0


async def test_a_reader_that_vanished_is_noticed_by_the_next_sign(
    spawn: Any, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host, "FIRST_SIGN_S", 0.05)
    monkeypatch.setattr(host, "HEARTBEAT_S", 0.05)
    gate = Gate()
    await spawn(gate)
    listener = await Listener(client).send({"text": "q"})
    await gate.started.wait()
    await listener.next()
    await listener.leave()
    async with asyncio.timeout(1):
        await gate.ended.wait()
    assert gate.cancelled == 1


async def test_a_stream_whose_reader_vanished_is_noticed_by_the_next_piece(spawn: Any, client: Client):
    ended = asyncio.Event()

    async def behave(context: Any, queue: Any) -> None:
        try:
            while True:
                await queue.enqueue_event({"type": DELTA, "data": "x"})
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    await spawn(Agent(behave))
    listener = await Listener(client).send({"text": "q"}, stq_stream="1")
    for _ in range(3):
        await listener.next()
    await listener.leave()
    async with asyncio.timeout(1):
        await ended.wait()


async def test_a_reader_that_has_forgotten_says_so_like_the_server(spawn: Any, client: Client):
    gate = Gate()
    await spawn(gate)
    listener = await Listener(client).send({"text": "q"})
    await listener.next()
    await client.publish(listener.last.reply, headers={"Status": "503"})
    async with asyncio.timeout(1):
        await gate.ended.wait()
    assert gate.cancelled == 1


async def test_who_comes_back_with_its_key_within_the_grace_finds_the_work_under_way(
    spawn: Any, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host, "FIRST_SIGN_S", 0.02)
    gate = Gate()
    await spawn(gate)
    listener = await Listener(client).send({"text": "q"}, idempotency_key="k")
    await listener.next()
    await client.publish(listener.last.reply, headers={"Status": "503"})
    again = await Listener(client).send({"text": "q"}, idempotency_key="k")
    await again.next()
    gate.open.set()
    assert (await again.rest())[-1]["data"] == "answer 1"
    assert (gate.runs, gate.cancelled) == (1, 0)
    other = await ask(client, {"text": "another"}, idempotency_key="k")
    assert (other["code"], other["retryable"]) == ("protocol", False)


async def test_after_the_grace_the_question_is_cancelled(spawn: Any, client: Client):
    gate = Gate()
    await spawn(gate)
    listener = await Listener(client).send({"text": "q"}, idempotency_key="k")
    await listener.next()
    await client.publish(listener.last.reply, headers={"Status": "503"})
    await asyncio.sleep(LIMITS.disconnect_grace_s / 2)
    assert not gate.ended.is_set()
    async with asyncio.timeout(1):
        await gate.ended.wait()
    assert gate.cancelled == 1


# --- limits and rights ---


async def test_an_answer_that_is_too_large_is_an_error_that_says_the_limit(spawn: Any, client: Client):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": DELTA, "data": "x" * 2_000_000})
        await asyncio.Event().wait()

    await spawn(Agent(behave))
    streamed = (await (await Listener(client).send({"text": "q"}, stq_stream="1", idempotency_key="k")).rest())[-1]
    assert (streamed["code"], streamed["retryable"]) == ("protocol", False)
    assert "2000000 bytes" in streamed["message"]
    assert json.loads((await client.request(f"{W}.health")).data)["status"] == "ok"


async def test_a_whole_answer_that_is_too_large_is_such_an_error_too(spawn: Any, client: Client):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message("x" * 2_000_000))

    await spawn(Agent(behave))
    event = await ask(client, {"text": "q"})
    assert (event["code"], event["retryable"]) == ("protocol", False)
    assert "2000000 bytes" in event["message"]


async def test_what_json_cannot_hold_is_the_agents_failure(spawn: Any, client: Client):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message("x", metadata={"a": object()}))

    await spawn(Agent(behave))
    assert (await ask(client, {"text": "q"}))["code"] == "agent_failed"


async def test_too_many_requests_at_once_are_asked_to_wait(spawn: Any, client: Client):
    gate = Gate()
    await spawn(gate, limits=HostLimits(connections=2, stop_s=1.0))
    listeners = [await Listener(client).send({"text": "q"}) for _ in range(2)]
    await soon(lambda: gate.runs == 2)
    event = await ask(client, {"text": "q"})
    assert (event["code"], event["retry_after_s"]) == ("rate_limited", 1.0)
    gate.open.set()
    for listener in listeners:
        assert (await listener.rest())[-1]["type"] == MESSAGE


async def test_where_an_authenticator_is_set_a_message_needs_a_credential(spawn: Any, client: Client):
    async def authenticator(credential: str) -> str | None:
        return {"alice": "Alice"}.get(credential)

    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message(context.principal))

    await spawn(Agent(behave), authenticator=authenticator)
    for headers in ({}, {"authorization": "alice"}, {"authorization": "Bearer bob"}):
        assert (await ask(client, {"text": "q"}, **headers))["code"] == "auth"
    assert (await ask(client, {"text": "q"}, authorization="Bearer alice"))["data"] == "Alice"
    assert json.loads((await client.request(f"{W}.health")).data)["status"] == "ok"


# --- several instances, and the end of one ---


def named(name: str) -> Agent:
    async def behave(context: Any, queue: Any) -> None:
        await asyncio.sleep(0.01)
        await queue.enqueue_event(message(name))

    return Agent(behave)


async def test_instances_of_one_agent_share_its_messages(spawn: Any, client: Client):
    for name in "ab":
        await spawn(named(name))
    answers = await asyncio.gather(*(ask(client, {"text": "q"}) for _ in range(100)))
    shares = [sum(answer["data"] == name for answer in answers) for name in "ab"]
    assert sum(shares) == 100
    assert min(shares) > 10


async def test_without_a_prefix_nobody_else_has_an_agents_subject(shared_server: NatsServer, make: Any):
    handles = [await make(shared_server.url, prefix=None).spawn_local_agent("w", "", 0, Echo()) for _ in range(2)]
    assert handles[0].base_url != handles[1].base_url


async def test_one_that_drains_answers_what_it_took_and_leaves_the_rest_to_others(spawn: Any, client: Client):
    gate = Gate()
    handle = await spawn(gate)
    listener = await Listener(client).send({"text": "q"})
    await gate.started.wait()
    draining = asyncio.create_task(handle.drain(5))
    await soon(lambda: not handle._taking)
    await settled(client)
    await asyncio.sleep(0.05)
    for subject in (W, f"{W}.health"):
        with pytest.raises(NoRespondersError):
            await client.request(subject, b'{"text": "q"}')
    await spawn(Echo())
    assert (await ask(client, {"text": "another"}))["data"] == "another"
    assert not draining.done()
    gate.open.set()
    assert (await listener.rest())[-1]["data"] == "answer 1"
    await draining


async def test_a_drain_is_bounded(spawn: Any, client: Client):
    gate = Gate()
    handle = await spawn(gate)
    await Listener(client).send({"text": "q"})
    await gate.started.wait()
    started = asyncio.get_running_loop().time()
    await handle.drain(0.2)
    assert asyncio.get_running_loop().time() - started < 0.5


async def test_what_was_sent_before_a_drain_is_answered(spawn: Any, client: Client):
    handle = await spawn(named("a"))
    listeners = [await Listener(client).send({"text": "q"}) for _ in range(200)]
    await settled(client)
    await handle.drain(5)
    ends = [(await listener.rest())[-1] for listener in listeners]
    assert [end.get("data") for end in ends] == ["a"] * 200


async def test_stopping_tells_everybody_who_waits(spawn: Any, client: Client):
    stubborn = Stubborn()
    handle = await spawn(stubborn)
    listener = await Listener(client).send({"text": "q"})
    await stubborn.started.wait()
    started = asyncio.get_running_loop().time()
    await asyncio.gather(handle.stop(), handle.stop())
    assert asyncio.get_running_loop().time() - started < LIMITS.stop_s + 0.3
    end = (await listener.rest())[-1]
    assert (end["code"], end["retryable"]) == ("connect", True)
    with pytest.raises(NoRespondersError):
        await client.request(W, b'{"text": "q"}')
    stubborn.release.set()


async def test_a_host_is_back_when_its_server_is(server: NatsServer, make: Any, plain: Any):
    await make(server.url).spawn_local_agent("w", "", 0, Echo())
    server.kill()
    await asyncio.sleep(0.3)
    server.start()
    client = await plain(server.url)

    async def is_back() -> bool:
        try:
            return (await ask(client, {"text": "q"}))["data"] == "q"
        except NoRespondersError:
            return False

    await until(is_back)
