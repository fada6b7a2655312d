"""What a hosted agent says on the wire."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from unit.comm.agents import Agent, Echo, Gate, message, soon
from unit.comm.raw import Answer, ask, connection, get, post

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.context import annotate, listening
from streaming_queue.comm.host import respond
from streaming_queue.errors import AuthError, ConnectError, RateLimitedError
from streaming_queue.protocol_backend.agora import host
from streaming_queue.protocol_backend.agora.document import HASH, HEX_HASH, QUESTION_ANSWER, read_data_uri

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


def asked(body: Any, name: str | None = None, **more: Any) -> bytes:
    return json.dumps({"protocolHash": name, "protocolSources": None, "body": body, **more}).encode()


async def tell(port: int, body: Any, name: str | None = None, path: str = "/", **more: Any) -> Answer:
    return await ask(port, post(path, asked(body, name, **more)))


async def reply(port: int, body: Any, name: str = HASH) -> Any:
    answer = await tell(port, body if isinstance(body, str) else json.dumps(body), name)
    assert (answer.status, answer.json["status"]) == (200, "success"), answer
    return json.loads(answer.json["body"])


class Recorder:
    """Keeps the contexts it was asked with, and answers with the text."""

    def __init__(self) -> None:
        self.contexts: list[Any] = []

    async def execute(self, context: Any, event_queue: Any) -> None:
        self.contexts.append(context)
        await event_queue.enqueue_event(message(context.get_user_input()))


# --- natural language ---


async def test_a_question_in_natural_language(spawn: Any):
    recorder = Recorder()
    port, _ = await spawn(recorder)
    answer = await tell(port, "What is 1 + 1?\n é")
    assert (answer.status, answer.json) == (200, {"status": "success", "body": "What is 1 + 1?\n é"})
    assert answer.headers["content-type"] == "application/json"
    (context,) = recorder.contexts
    assert (context.payload, context.context_id, context.streaming) == ({"text": "What is 1 + 1?\n é"}, None, False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"body": "hi"}',
        b'{"body":"hi","later":{"v":2}}',
        b'{\n "protocolHash": null, "body" : "\\u0068i", "multiround": null}',
    ],
)
async def test_every_spelling_of_a_question_is_taken(spawn: Any, body: bytes):
    port, _ = await spawn(Echo())
    assert (await ask(port, post("/", body))).json == {"status": "success", "body": "hi"}


async def test_a_failure_in_natural_language_has_no_body_to_be_taken_for_an_answer(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        raise RateLimitedError("slow down")

    port, _ = await spawn(Agent(behave))
    answer = await tell(port, "q")
    assert (answer.status, answer.json) == (200, {"status": "failure", "error": "slow down"})


async def test_an_answer_that_json_cannot_hold_is_a_failure(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message("\ud800"))

    port, _ = await spawn(Agent(behave))
    assert (await tell(port, "q")).json["status"] == "failure"
    assert (await reply(port, {"text": "q"}))["failure"]["code"] == "agent_failed"


async def test_whoever_leaves_cancels_the_question(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(post("/", asked("q")))
        await gate.started.wait()
    await soon(lambda: gate.cancelled == 1)


# --- by our document ---


@pytest.mark.parametrize("name", [HASH, HEX_HASH])
async def test_a_question_by_the_document(spawn: Any, name: str):
    async def behave(context: Any, queue: Any) -> None:
        annotate(llm_ms=1.5)
        await queue.enqueue_event(message(f"{context.get_user_input()} {dict(context.metadata)}"))

    port, _ = await spawn(Agent(behave))
    told = await reply(port, {"text": "q", "context": {"kind": "question", "mine": [1]}, "later": 1}, name)
    assert told == {"answer": "q {'kind': 'question', 'mine': [1]}", "metadata": {"llm_ms": 1.5}}


async def test_a_body_may_be_an_object(spawn: Any):
    port, _ = await spawn(Echo())
    answer = await tell(port, {"text": "q"}, HASH)
    assert json.loads(answer.json["body"]) == {"answer": "q"}


@pytest.mark.parametrize(
    "body",
    ["", "hello", "[]", "null", "{}", '{"text": 5}', '{"text": "x", "context": []}', '{"text": "x", "text": "y"}',
     '{"text": NaN}', '{"cancel": ""}', '{"cancel": 5}', "[" * 50_000],
    ids=range(12),
)  # fmt: skip
async def test_what_the_document_does_not_know_is_a_failure_by_the_document(spawn: Any, body: str):
    port, _ = await spawn(Echo())
    failure = (await reply(port, body))["failure"]
    assert (failure["code"], failure["retryable"]) == ("protocol", False)


async def test_a_failure_comes_by_the_document(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        raise RateLimitedError("slow down", retry_after_s=2.5)

    port, _ = await spawn(Agent(behave))
    assert await reply(port, {"text": "q"}) == {
        "failure": {"code": "rate_limited", "message": "slow down", "retryable": True, "retry_after_s": 2.5}
    }


async def test_a_question_is_cancelled_by_its_key(spawn: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    sending = asyncio.create_task(backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}}))
    await gate.started.wait()
    assert await reply(port, {"cancel": "other"}) == {"cancelled": False}
    assert await reply(port, {"cancel": "k"}) == {"cancelled": True}
    assert gate.cancelled == 1
    with pytest.raises(Exception, match="cancelled"):
        await sending


async def test_an_answer_that_is_long_in_coming_shows_signs_of_life(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.03)
    gate, signs = Gate(), 0

    def count() -> None:
        nonlocal signs
        signs += 1
        if signs == 4:
            gate.open.set()

    port, backend = await spawn(gate)
    with listening(count):
        assert (await backend.send("c", "w", {"text": "q"}))["text"] == "answer 1"

    async def behave(context: Any, queue: Any) -> None:
        await asyncio.sleep(0.1)
        raise RateLimitedError("slow down")

    port, backend = await spawn(Agent(behave))
    with pytest.raises(RateLimitedError, match="slow down"):
        await backend.send("c", "w", {"text": "q"})
    answer = await tell(port, "q")
    assert answer.body.startswith(b"\n")
    assert answer.json == {"status": "failure", "error": "slow down"}


# --- documents ---


@pytest.mark.parametrize("path", ["/.well-known/agora", "/wellknown"])
async def test_the_document_is_listed_with_its_text(spawn: Any, path: str):
    port, _ = await spawn(Echo())
    answer = await ask(port, get(path))
    ((name, (source,)),) = answer.json.items()
    assert (answer.status, name, read_data_uri(source)) == (200, HASH, QUESTION_ANSWER)
    assert answer.headers["stq-agent-id"] == "w"


async def test_whoever_wants_to_negotiate_is_told_our_document(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    answer = await tell(port, "Let us agree on how to speak.", "negotiation", multiround=True)
    assert answer.json["body"].endswith(QUESTION_ANSWER)
    assert HASH in answer.json["body"]
    further = await tell(port, "Fine.", path=f"/conversations/{answer.json['conversationId']}")
    assert further.json["body"] == answer.json["body"]
    assert gate.runs == 0


async def test_an_unknown_document_is_rejected_and_the_agent_not_asked(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    answer = await tell(port, "q", "AAAA", protocolSources=["data:,hello"])
    assert (answer.status, answer.json["status"], "body" in answer.json) == (200, "rejected", False)
    assert gate.runs == 0


# --- several rounds ---


async def test_a_conversation_is_the_context_of_its_rounds(spawn: Any):
    recorder = Recorder()
    port, _ = await spawn(recorder)
    first = (await tell(port, "one", multiround=True)).json
    other = (await tell(port, "two", multiround=True)).json
    again = (await tell(port, "three", path=f"/conversations/{first['conversationId']}")).json
    assert [context.context_id for context in recorder.contexts] == [
        first["conversationId"],
        other["conversationId"],
        first["conversationId"],
    ]
    assert again == {**first, "body": "three"}
    assert isinstance(first["conversationExpires"], int)


async def test_a_conversation_keeps_its_document(spawn: Any):
    port, _ = await spawn(Echo())
    first = (await tell(port, '{"text": "one"}', HASH, multiround=True)).json
    path = f"/conversations/{first['conversationId']}"
    for name in (HASH, None):
        assert json.loads((await tell(port, '{"text": "two"}', name, path)).json["body"]) == {"answer": "two"}
    answer = await tell(port, "three", "negotiation", path)
    assert (answer.status, answer.json["status"]) == (400, "failure")


async def test_a_conversation_ends_and_is_gone(spawn: Any):
    port, _ = await spawn(Echo())
    path = f"/conversations/{(await tell(port, 'one', multiround=True)).json['conversationId']}"
    delete = f"DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    for _ in range(2):
        answer = await ask(port, delete)
        assert (answer.status, answer.json) == (200, {"status": "success"})
    answer = await tell(port, "two", path=path)
    assert (answer.status, answer.json["status"]) == (404, "failure")


async def test_conversations_are_bounded_in_number(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "MAX_CONVERSATIONS", 3)
    port, _ = await spawn(Echo())
    paths = [f"/conversations/{(await tell(port, 'one', multiround=True)).json['conversationId']}" for _ in range(5)]
    assert [(await tell(port, "two", path=path)).status for path in paths] == [404, 404, 200, 200, 200]


async def test_conversations_are_bounded_in_time(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "CONVERSATION_S", 0.0)
    port, _ = await spawn(Echo())
    gone = (await tell(port, "one", multiround=True)).json
    assert (await tell(port, "two", path=f"/conversations/{gone['conversationId']}")).status == 404


async def test_a_conversation_is_its_principals_own(spawn: Any):
    async def authenticate(credential: str) -> str | None:
        return credential if credential in ("ann", "bob") else None

    port, _ = await spawn(Echo(), authenticator=authenticate)
    ann, bob = (f"Authorization: Bearer {name}" for name in ("ann", "bob"))
    first = (await ask(port, post("/", asked("one", multiround=True), ann))).json
    path = f"/conversations/{first['conversationId']}"
    assert (await ask(port, post(path, asked("two"), bob))).status == 404
    assert (await ask(port, f"DELETE {path} HTTP/1.1\r\nHost: localhost\r\n{bob}\r\n\r\n".encode())).status == 200
    assert (await ask(port, post(path, asked("two"), ann))).status == 200


# --- what is refused ---


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"hello", b"[]", b"null", b"{}", b'{"body": 5}', b'{"body": NaN}', b'{"body": "x", "body": "y"}',
     b'{"body": "\xff"}', b'{"body": "x", "protocolHash": 5}', b'{"body": "x", "protocolSources": "data:,"}',
     b'{"body": "x", "protocolSources": [5]}', b'{"body": "x", "multiround": 1}', b"[" * 100_000, b"\x1f\x8b\x08\x00"],
    ids=range(16),
)  # fmt: skip
async def test_what_is_no_request_is_a_bad_one(spawn: Any, body: bytes):
    port, _ = await spawn(Echo())
    answer = await ask(port, post("/", body))
    assert (answer.status, answer.json["status"]) == (400, "failure")
    assert isinstance(answer.json["error"], str)


async def test_an_object_is_no_natural_language(spawn: Any):
    port, _ = await spawn(Echo())
    answer = await tell(port, {"text": "q"})
    assert (answer.status, answer.json["status"]) == (200, "failure")


@pytest.mark.parametrize(
    ("path", "status", "allow"),
    [("/", 405, "POST"), ("/nowhere", 404, None), ("/conversations/x", 405, "POST, DELETE")],
)
async def test_other_paths_and_methods(spawn: Any, path: str, status: int, allow: str | None):
    port, _ = await spawn(Echo())
    answer = await ask(port, get(path))
    assert (answer.status, answer.json["status"], answer.headers.get("allow")) == (status, "failure", allow)


async def test_a_large_body_is_refused(spawn: Any):
    port, _ = await spawn(Echo())
    answer = await tell(port, "x" * 2_100_000)
    assert (answer.status, answer.code) == (413, "protocol")


async def test_a_credential_is_demanded_but_not_for_the_list(spawn: Any):
    async def authenticate(credential: str) -> str | None:
        return "ann" if credential == "right" else None

    port, backend = await spawn(Echo(), EndpointOptions(credential="wrong"), authenticator=authenticate)
    assert (await ask(port, get("/.well-known/agora"))).status == 200
    assert (await tell(port, "q")).status == 401
    for asking in (backend.send("c", "w", {"text": "q"}), backend.describe("w")):
        with pytest.raises(AuthError):
            await asking
    port, backend = await spawn(Echo(), EndpointOptions(credential="right"), authenticator=authenticate)
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"
    facts = await backend.describe("w")
    assert (facts["agent_id"], facts["protocols"], facts["speaks"]) == ("w", [HASH], "our document")
    assert facts["date"].tzinfo is not None


async def test_whoever_meets_an_agent_that_drains_is_told(spawn: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    asking = asyncio.create_task(tell(port, "q"))
    await gate.started.wait()
    (agent,) = backend._agents
    draining = asyncio.create_task(agent.drain(5))
    await asyncio.sleep(0)
    assert not await backend.health_check("w")
    with pytest.raises(ConnectError, match="drains"):
        await backend.connect("c", "w")
    assert (await tell(port, "another")).json["status"] == "failure"
    gate.open.set()
    await draining
    assert (await asking).json["body"] == "answer 1"
