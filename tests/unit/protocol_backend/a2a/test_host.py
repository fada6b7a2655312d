"""What stands on the wire when we host."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import time
from typing import Any
from urllib.parse import quote

import pytest
from unit.comm.agents import Agent, Echo, Gate, message, soon
from unit.comm.raw import Answer, ask, connection, get, post

from streaming_queue.comm.base import HostLimits, HostOptions
from streaming_queue.comm.skills import Skill
from streaming_queue.errors import ConfigError, RateLimitedError
from streaming_queue.messages import DELTA, STATUS
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.protocol_backend.a2a.dialect import CALL_EXTENSION, CARD_PATH

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

V1 = "A2A-Version: 1.0"


async def import_the_host() -> None:
    """Import blocks."""
    await asyncio.to_thread(importlib.import_module, "streaming_queue.protocol_backend.a2a.host")


@pytest.fixture
async def spawn():
    backends: list[A2ACommBackend] = []

    async def spawn(executor: Any, *, handle: bool = False, **host_options: Any) -> Any:
        """The port, with `handle` also the agent's handle."""
        limits = HostLimits(disconnect_grace_s=0.3, stop_s=1.0)
        backends.append(A2ACommBackend(host_options=HostOptions(**{"limits": limits, **host_options})))
        agent = await backends[-1].spawn_local_agent("w", "127.0.0.1", 0, executor)
        port = int(agent.base_url.rpartition(":")[2])
        return (port, agent) if handle else port

    yield spawn
    for backend in backends:
        await backend.close()


def params(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}], **more}}


def rpc(method: str = "SendMessage", request_id: Any = 1, **fields: Any) -> bytes:
    document = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": fields or params()}
    return post("/", json.dumps(document).encode(), V1)


def rest(path: str, document: Any) -> bytes:
    return post(path, json.dumps(document).encode(), V1)


def streamed(answer: Answer) -> list[dict[str, Any]]:
    """The results of a stream."""
    return [json.loads(line[6:])["result"] for line in answer.body.decode().split("\r\n") if line[:5] == "data:"]


# --- the card ---


async def test_the_card(spawn: Any):
    port = await spawn(Echo())
    answer = await ask(port, get(CARD_PATH, host=f"localhost:{port}"))
    card = answer.json
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert "max-age" in answer.headers["cache-control"]
    assert answer.headers["last-modified"].endswith("GMT")
    assert card["name"] == "w"
    assert [(item["protocolBinding"], item["protocolVersion"]) for item in card["supportedInterfaces"]] == [
        ("JSONRPC", "1.0"),
        ("HTTP+JSON", "1.0"),
        ("JSONRPC", "0.3"),
        ("HTTP+JSON", "0.3"),
    ]
    assert card["capabilities"]["streaming"] is True
    assert [item["uri"] for item in card["capabilities"]["extensions"]] == [CALL_EXTENSION]
    assert (card["url"], card["protocolVersion"]) == (f"http://localhost:{port}/", "0.3")
    assert "securitySchemes" not in card


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "queue.example"])
async def test_every_interface_is_at_the_cards_own_origin(spawn: Any, name: str):
    port = await spawn(Echo(), allowed_hosts=("queue.example",))
    card = (await ask(port, get(CARD_PATH, host=f"{name}:{port}"))).json
    assert {item["url"].rstrip("/") for item in card["supportedInterfaces"]} == {f"http://{name}:{port}"}


async def test_a_card_that_is_known_is_not_sent_again(spawn: Any):
    port = await spawn(Echo())
    first = await ask(port, get(CARD_PATH))
    for header in (f"If-None-Match: {first.headers['etag']}", f"If-Modified-Since: {first.headers['last-modified']}"):
        answer = await ask(port, get(CARD_PATH, header))
        assert (answer.status, answer.body) == (304, b"")
    assert (await ask(port, get(CARD_PATH, 'If-None-Match: "other"'))).status == 200


async def test_a_guarded_host_says_so_in_a_card_that_everyone_may_read(spawn: Any):
    async def authenticator(credential: str) -> str | None:
        return {"alice": "a", "bob": "b"}.get(credential)

    port = await spawn(Echo(), authenticator=authenticator)
    card = (await ask(port, get(CARD_PATH))).json
    assert card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "bearer"
    assert (await ask(port, rpc())).status == 401
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params()}).encode()
    assert "result" in (await ask(port, post("/", body, V1, "Authorization: Bearer alice"))).json


async def test_a_task_is_its_owners_alone(spawn: Any):
    async def authenticator(credential: str) -> str | None:
        return credential

    gate = Gate()
    port = await spawn(gate, authenticator=authenticator)

    async def call(who: str, method: str, fields: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": fields}).encode()
        return (await ask(port, post("/", body, V1, f"Authorization: Bearer {who}"))).json

    begun = await call("alice", "SendMessage", {**params(), "configuration": {"returnImmediately": True}})
    task = {"id": begun["result"]["task"]["id"]}
    for method in ("GetTask", "CancelTask", "SubscribeToTask"):
        assert (await call("bob", method, task))["error"]["code"] == -32001
    assert (await call("bob", "ListTasks", {}))["result"]["totalSize"] == 0
    assert (await call("alice", "ListTasks", {}))["result"]["totalSize"] == 1
    asking = asyncio.create_task(call("alice", "SendMessage", params(messageId="m-2")))
    await soon(lambda: gate.runs == 2)
    assert (await call("bob", "CancelTask", {"id": "m-2"}))["error"]["code"] == -32001
    assert (await call("alice", "CancelTask", {"id": "m-2"}))["result"]["status"]["state"] == "TASK_STATE_CANCELED"
    assert (await asking)["error"]["code"] == -32603
    await call("alice", "CancelTask", task)


async def test_health(spawn: Any):
    assert (await ask(await spawn(Echo()), get("/health"))).json == {"status": "ok", "agent_id": "w"}


async def test_an_executor_has_its_own_face(spawn: Any):
    class Poet(Echo):
        description = "Writes poems."
        skills = (Skill("sonnet", "Sonnet", "Fourteen lines.", tags=("poetry",), examples=("Of love.", "Of war.")),)

    card = (await ask(await spawn(Poet()), get(CARD_PATH))).json
    assert card["description"] == "Writes poems."
    assert card["skills"] == [
        {
            "id": "sonnet",
            "name": "Sonnet",
            "description": "Fourteen lines.",
            "tags": ["poetry"],
            "examples": ["Of love.", "Of war."],
        }
    ]
    card = (await ask(await spawn(Echo()), get(CARD_PATH))).json
    assert card["description"] == "Answers questions in plain text."
    assert [skill["id"] for skill in card["skills"]] == ["answer"]


@pytest.mark.parametrize(
    "attributes",
    [{"description": 5}, {"description": ""}, {"skills": ()}, {"skills": 5}, {"skills": ["sing"]}],
    ids=str,
)
async def test_a_face_that_is_none(spawn: Any, attributes: dict[str, Any]):
    executor = Echo()
    for name, value in attributes.items():
        setattr(executor, name, value)
    with pytest.raises(ConfigError, match="agent 'w'"):
        await spawn(executor)


@pytest.mark.parametrize(("set_to", "enabled"), [(None, False), ("true", True)])
def test_the_sdks_spans_are_off_unless_asked_for(set_to: str | None, enabled: bool):
    code = (
        "from streaming_queue.comm import registry; registry.create('a2a');"
        "from a2a.utils import telemetry; print(telemetry.otel_enabled)"
    )
    variable = {} if set_to is None else {"OTEL_INSTRUMENTATION_A2A_SDK_ENABLED": set_to}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")} | variable
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(enabled)


# --- draining ---


async def test_a_draining_host_is_not_healthy_and_ends_what_it_has(spawn: Any):
    gate = Gate()
    port, handle = await spawn(gate, handle=True)
    asking = asyncio.create_task(ask(port, rpc(**params(metadata={"idempotency_key": "k"}))))
    await gate.started.wait()
    draining = asyncio.create_task(handle.drain(5))
    await soon(lambda: not handle._handler.ready)
    card = await ask(port, get(CARD_PATH))
    assert (card.status, card.headers["retry-after"]) == (503, "5")
    assert card.json["error"]["code"] == "unavailable"
    health = await ask(port, get("/health"))
    assert (health.status, health.json["status"]) == (503, "draining")
    refused = (await ask(port, rpc(**params(messageId="m-2")))).json["error"]
    assert "drains" in refused["message"]
    assert "result" in (await ask(port, rpc("GetTask", id="m-1"))).json
    assert not draining.done()
    gate.open.set()
    await draining
    assert "result" in (await asking).json
    assert gate.runs == 1


async def test_a_drain_is_bounded(spawn: Any):
    gate = Gate()
    port, handle = await spawn(gate, handle=True)
    asking = asyncio.create_task(ask(port, rpc()))
    await gate.started.wait()
    async with asyncio.timeout(1):
        await handle.drain(0.05)
    gate.open.set()
    await asking


# --- the short path and the SDK's answer the same ---


def _same(answer: Answer) -> Any:
    """An answer without what is new each time."""
    if not answer.body:
        return answer.status, None
    document = answer.json
    result = document.get("result", document).get("message")
    if result:
        assert result.pop("messageId")
        assert result["contextId"]
        if len(result["contextId"]) == 32:
            result["contextId"] = "new"
    return answer.status, answer.headers["content-type"], document


SHORT = {
    "plain": params(),
    "parts": params(parts=[{"text": "a"}, {"text": "b"}]),
    "context": params(contextId="ctx"),
    "metadata": params(metadata={"attempt": 2, "mine": {"a": [1, 2.5, None, "é"]}}),
    "modes": {**params(), "configuration": {"acceptedOutputModes": ["text/plain"]}},
    "fails": params("fail"),
    "breaks": params("break"),
    "mistaken": params("config"),
}


@pytest.mark.parametrize("path", ["/", "/message:send"])
@pytest.mark.parametrize("name", SHORT)
async def test_the_short_path_answers_as_the_sdk_does(
    spawn: Any, monkeypatch: pytest.MonkeyPatch, path: str, name: str
):
    async def behave(context: Any, queue: Any) -> None:
        text = context.get_user_input()
        if text == "fail":
            raise RateLimitedError("slow", retry_after_s=2.5)
        if text == "break":
            raise ValueError("sk-123")
        if text == "config":
            raise ConfigError("mend it")
        metadata = {"seen": dict(context.metadata)} if context.metadata else {}
        await queue.enqueue_event(message(text, metadata=metadata))

    await import_the_host()
    from streaming_queue.protocol_backend.a2a import app

    port = await spawn(Agent(behave))
    document: Any = SHORT[name]
    if path == "/":
        document = {"jsonrpc": "2.0", "id": "r-1", "method": "SendMessage", "params": document}
    short = await ask(port, rest(path, document))
    monkeypatch.setattr(app, "_SHORT_PATHS", {})
    long = await ask(port, rest(path, document))
    assert _same(short) == _same(long)
    assert b"sk-123" not in short.body


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "ROLE_AGENT"},
        {"role": "user"},
        {"messageId": ""},
        {"messageId": 5},
        {"parts": []},
        {"parts": "x"},
        {"parts": [{"data": {}}]},
        {"parts": [{"text": "a", "mediaType": "text/plain"}]},
        {"parts": [{"text": 5}]},
        {"metadata": []},
        {"taskId": "t"},
        {"extensions": ["urn:x"]},
        {"unknown": 1},
    ],
    ids=str,
)
async def test_what_is_not_short_is_left_to_the_sdk(changes: dict[str, Any]):
    await import_the_host()
    from streaming_queue.protocol_backend.a2a.short_path import short_rest, short_rpc

    assert short_rest(params()) is not None
    assert short_rest(params(**changes)) is None
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params()}
    assert short_rpc(call) is not None
    for wrong in ({"id": True}, {"id": None}, {"jsonrpc": "1.0"}, {"method": "GetTask"}, {"params": []}, {"more": 1}):
        assert short_rpc({**call, **wrong}) is None


async def test_an_answer_that_is_no_json_is_the_agents_failure(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message("x", metadata={"when": object()}))

    port = await spawn(Agent(behave))
    old = {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "q"}]}
    v03 = post(
        "/", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": old}}).encode()
    )
    for request in (
        rpc(),
        rest("/message:send", params()),
        v03,
        rpc("SendStreamingMessage"),
    ):
        answer = await ask(port, request)
        assert "cannot be sent as JSON" in answer.json["error"]["message"]


# --- requests that are wrong ---


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff", -32700),
        (b'{"jsonrpc": NaN}', -32700),
        (b'{"jsonrpc": "2.0", "jsonrpc": "2.0", "id": 1, "method": "GetTask"}', -32700),
        (b"[" * 100_000, -32600),
        (b"[]", -32600),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}]', -32600),
        (b"5", -32600),
        (b'{"jsonrpc": "2.0", "id": 1}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "Fly"}', -32601),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": 5}}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": {"parts": 5}}}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {}}', -32602),
    ],
    ids=str,
)
async def test_a_request_that_is_wrong_is_told_so(spawn: Any, body: bytes, code: int):
    port = await spawn(Echo())
    answer = await ask(port, post("/", body, V1))
    assert answer.json["error"]["code"] == code
    assert b"Traceback" not in answer.body
    assert (await ask(port, rpc())).json["result"]["message"]["parts"] == [{"text": "hello"}]


@pytest.mark.parametrize("version", ["1.0", "0.3"])
@pytest.mark.parametrize("path", ["/", "/message:send", "/message:stream", "/v1/message:send"])
async def test_a_message_of_too_many_values_costs_little(spawn: Any, path: str, version: str):
    ran: list[Any] = []
    port = await spawn(Agent(lambda context, queue: ran.append(context)))
    message = {**params()["message"], "metadata": {"values": [0] * 300_000}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
    body = json.dumps(call if path == "/" else {"message": message}).encode()
    began = time.process_time()
    answer = await ask(port, post(path, body, f"A2A-Version: {version}"))
    assert (await ask(port, get("/health"))).status == 200
    assert time.process_time() - began < 1
    assert (answer.status, answer.json["error"]["code"]) == ((200, -32600) if path == "/" else (400, 400))
    assert ran == []


async def test_members_that_do_not_belong_there_are_counted_and_not_listed(
    spawn: Any, caplog: pytest.LogCaptureFixture
):
    port = await spawn(Echo())
    odd = {f"\x1b[2Jodd_{number}": 1 for number in range(4000)}
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params(), **odd}
    answer = await ask(port, post("/", json.dumps(call).encode(), V1))
    assert (answer.json["id"], answer.json["error"]["code"]) == (1, -32600)
    assert "4000" in answer.json["error"]["message"]
    assert len(answer.body) < 1000
    assert b"\\u001b" not in answer.body
    assert caplog.text == ""


async def test_other_refusals(spawn: Any):
    port = await spawn(Echo())
    for document, code in (
        (params(parts=[{"data": {"a": 1}}]), -32005),
        (params(taskId="none"), -32001),
        ({**params(), "configuration": {"taskPushNotificationConfig": {"url": "http://169.254.169.254/"}}}, -32003),
    ):
        assert (await ask(port, rpc(**document))).json["error"]["code"] == code
    assert (await ask(port, get("/nothing"))).status == 404
    assert (await ask(port, post("/", b"x" * 2_000_000, V1))).status == 413


OLD = {"message": {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "hello"}]}}
OLD_REST = {"request": {"messageId": "m", "role": "ROLE_USER", "content": [{"text": "hello"}]}}


@pytest.mark.parametrize("place", ["header", "parameter"])
@pytest.mark.parametrize(
    "version", ["1.0", "1.0.3", "0.3", "0.3.0", "", None, "0.2", "1.7", "1", "2.0", "7.0", "one", "1.x", "1.0, 0.3"]
)
async def test_a_version_that_is_not_spoken_is_told_so(spawn: Any, version: str | None, place: str):
    port = await spawn(Echo())
    is_1, is_03 = version in ("1.0", "1.0.3"), version in ("0.3", "0.3.0", "", None)

    async def told(path: str, document: Any) -> Answer:
        body = json.dumps(document).encode()
        if version is None:
            return await ask(port, post(path, body))
        if place == "header":
            return await ask(port, post(path, body, f"A2A-Version: {version}"))
        return await ask(port, post(f"{path}?A2A-Version={quote(version)}", body))

    for method in ("SendMessage", "SendStreamingMessage"):
        answer = await told("/", {"jsonrpc": "2.0", "id": 7, "method": method, "params": params()})
        assert is_1 if b"hello" in answer.body else answer.json["error"]["code"] == -32009
    for method in ("message/send", "message/stream"):
        answer = await told("/", {"jsonrpc": "2.0", "id": 7, "method": method, "params": OLD})
        assert is_03 if b"hello" in answer.body else (answer.json["id"], answer.json["error"]["code"]) == (7, -32009)
    for path in ("/message:send", "/message:stream"):
        answer = await told(path, params())
        if is_1:
            assert b"hello" in answer.body
        else:
            assert answer.status == 400
            assert answer.json["error"]["details"][0]["reason"] == "VERSION_NOT_SUPPORTED"
        answer = await told(f"/v1{path}", OLD_REST)
        assert is_03 if b"hello" in answer.body else answer.status == 400


async def test_a_tasks_version_may_be_a_parameter(spawn: Any):
    port = await spawn(Echo())
    assert (await ask(port, get("/tasks/none?A2A-Version=1.0"))).json["error"]["status"] == "NOT_FOUND"
    for path in ("/tasks/none?A2A-Version=2.0", "/tasks/none"):
        answer = await ask(port, get(path))
        assert answer.status == 400
        assert answer.json["error"]["details"][0]["reason"] == "VERSION_NOT_SUPPORTED"


# --- tasks ---


async def test_a_message_under_way_is_known_by_its_id(spawn: Any):
    gate = Gate()
    port = await spawn(gate)
    for request in (
        rpc(**params(contextId="c-1")),
        rest("/message:send", params(contextId="c-1")),
        rpc("SendStreamingMessage", **params(contextId="c-1")),
        rpc(**params(contextId="c-1"), configuration={"acceptedOutputModes": ["text/plain"], "historyLength": 1}),
    ):
        gate.open.clear()
        gate.started.clear()
        asking = asyncio.create_task(ask(port, request))
        await gate.started.wait()
        at_work = {"id": "m-1", "contextId": "c-1", "status": {"state": "TASK_STATE_WORKING"}}
        assert (await ask(port, rpc("GetTask", id="m-1"))).json["result"] == at_work
        gate.open.set()
        assert (await asking).status == 200
        assert (await ask(port, rpc("GetTask", id="m-1"))).json["error"]["code"] == -32001


async def test_a_question_whose_caller_vanished_can_still_be_cancelled_by_its_message(spawn: Any):
    gate = Gate()
    port = await spawn(gate, limits=HostLimits(disconnect_grace_s=60, stop_s=1.0))
    async with connection(port) as peer:
        await peer.write(rpc(**params(metadata={"idempotency_key": "k"})))
        await gate.started.wait()
        peer.reset()
    await asyncio.sleep(0.05)
    assert (await ask(port, rpc("CancelTask", id="m-1"))).json["result"]["status"]["state"] == "TASK_STATE_CANCELED"
    assert gate.cancelled == 1


async def test_a_message_under_way_is_cancelled_by_its_id(spawn: Any):
    gate = Gate()
    port = await spawn(gate)
    asking = asyncio.create_task(ask(port, rpc()))
    await gate.started.wait()
    cancelled = (await ask(port, rpc("CancelTask", id="m-1"))).json["result"]
    assert cancelled == {"id": "m-1", "status": {"state": "TASK_STATE_CANCELED"}}
    assert gate.cancelled == 1
    assert (await asking).json["error"]["code"] == -32603


async def test_a_command_is_not_cancelled(spawn: Any):
    gate = Gate()
    port = await spawn(gate)
    asking = asyncio.create_task(ask(port, rpc(**params(metadata={"kind": "command"}))))
    await gate.started.wait()
    assert (await ask(port, rpc("CancelTask", id="m-1"))).json["error"]["code"] == -32002
    gate.open.set()
    assert "result" in (await asking).json


async def test_the_same_question_twice_is_one_piece_of_work(spawn: Any):
    gate = Gate()
    port = await spawn(gate)
    first, second = (params(messageId=name, metadata={"idempotency_key": "k"}) for name in ("m-1", "m-2"))
    now = {"configuration": {"returnImmediately": True}}
    begun = [(await ask(port, rpc(**first, **now))).json["result"]["task"]["id"] for _ in range(2)]
    assert begun[0] == begun[1]
    waiting = asyncio.create_task(ask(port, rpc(**second)))
    await asyncio.sleep(0.1)
    gate.open.set()
    assert (await waiting).json["result"]["message"]["parts"] == [{"text": "answer 1"}]
    assert gate.runs == 1


async def test_a_task_goes_on_without_its_reader_and_can_be_followed_again(spawn: Any):
    gate = Gate()

    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": DELTA, "data": "first "})
        await gate.execute(context, queue)

    port = await spawn(Agent(behave))
    async with connection(port) as peer:
        await peer.write(rpc("SendStreamingMessage"))
        async with asyncio.timeout(5):
            await peer.head()
            data = await peer.reader.readuntil(b"first")
        task_id = json.loads(data.split(b"data: ")[1].split(b"\r\n")[0])["result"]["task"]["id"]
        peer.reset()
    following = asyncio.create_task(ask(port, rpc("SubscribeToTask", id=task_id)))
    await asyncio.sleep(0.05)
    gate.open.set()
    events = streamed(await following)
    assert [next(iter(event)) for event in events] == ["task", "artifactUpdate", "artifactUpdate", "statusUpdate"]
    assert not events[1]["artifactUpdate"].get("append")
    assert not events[2]["artifactUpdate"].get("append"), "the message differs from its pieces and replaces them"
    assert events[2]["artifactUpdate"]["artifact"]["parts"] == [{"text": "answer 1"}]
    assert ["lastChunk" in event["artifactUpdate"] for event in events[1:3]] == [False, True]


@pytest.mark.parametrize(
    ("told", "pieces"),
    [
        ([{"type": DELTA, "data": "all"}], [("all", None)]),
        ([{"type": DELTA, "data": "a"}, {"type": DELTA, "data": "ll"}], [("a", None), ("ll", True)]),
        ([{"type": STATUS, "data": "at it"}, message("all")], []),
        ([{"type": DELTA, "data": "a"}, {"type": DELTA, "data": "ll"}, message("all")], [("a", None), ("ll", True)]),
        ([{"type": DELTA, "data": "none"}, message("all")], [("none", None)]),
        ([{"type": DELTA, "data": ""}, {"type": DELTA, "data": "all"}], [("", None), ("all", True)]),
        ([{"type": DELTA, "data": "a"}, {"type": "error", "data": "no"}], [("a", None)]),
    ],
    ids=["one piece", "pieces", "message", "repeated", "thought again", "empty piece", "failure"],
)
async def test_the_last_chunk_is_the_whole_answer(spawn: Any, told: list[Any], pieces: list[Any]):
    async def behave(context: Any, queue: Any) -> None:
        for event in told:
            if event["type"] == "error":
                raise RateLimitedError("slow")
            await queue.enqueue_event(event)

    port = await spawn(Agent(behave))
    events = streamed(await ask(port, rpc("SendStreamingMessage")))
    updates = [event["artifactUpdate"] for event in events if "artifactUpdate" in event]
    chunks = [(item["artifact"]["parts"], item.get("append"), item.get("lastChunk")) for item in updates]
    failed = told[-1]["type"] == "error"
    whole = [] if failed else [([{"text": "all"}], None, True)]
    assert chunks == [*(([{"text": text}], append, None) for text, append in pieces), *whole]
    assert len({item["artifact"]["artifactId"] for item in updates}) <= 1
    state = "TASK_STATE_FAILED" if failed else "TASK_STATE_COMPLETED"
    assert events[-1]["statusUpdate"]["status"]["state"] == state
    kept = (await ask(port, rpc("GetTask", id=events[0]["task"]["id"]))).json["result"]
    assert [artifact["parts"] for artifact in kept.get("artifacts", [])] == [parts for parts, _, _ in whole]


async def test_a_cancelled_stream_has_no_last_chunk(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": DELTA, "data": "first "})
        await asyncio.Event().wait()

    port = await spawn(Agent(behave))
    async with connection(port) as peer:
        await peer.write(rpc("SendStreamingMessage"))
        async with asyncio.timeout(5):
            await peer.head()
            begun = await peer.reader.readuntil(b"first")
            task_id = json.loads(begun.split(b"data: ")[1].split(b"\r\n")[0])["result"]["task"]["id"]
            await ask(port, rpc("CancelTask", id=task_id))
            rest = await peer.reader.readuntil(b"TASK_STATE_CANCELED")
    assert b"lastChunk" not in begun + rest


async def test_a_words_metadata_go_with_it(spawn: Any, caplog: pytest.LogCaptureFixture):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": STATUS, "data": "half", "metadata": {"done": 5}})
        await queue.enqueue_event({"type": STATUS, "data": "odd", "metadata": {"when": object()}})
        await queue.enqueue_event(message("all"))

    answer = await ask(await spawn(Agent(behave)), rpc("SendStreamingMessage"))
    updates = streamed(answer)
    half, odd = (update["statusUpdate"] for update in updates[1:3])
    assert half["metadata"] == {"done": 5.0}
    assert half["status"]["message"]["parts"] == [{"text": "half"}]
    assert "metadata" not in odd
    assert odd["status"]["message"]["parts"] == [{"text": "odd"}]
    assert "a status is sent without its metadata" in caplog.text
    assert updates[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_ended_tasks_are_kept_within_bounds(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    await import_the_host()
    from streaming_queue.protocol_backend.a2a import task_store

    monkeypatch.setattr(task_store, "TASKS_KEPT", 3)
    port = await spawn(Echo())
    for number in range(8):
        await ask(port, rpc(**params(f"q{number}"), configuration={"returnImmediately": True}))
    listed: Any = {}

    async with asyncio.timeout(2):
        while listed.get("totalSize") != 3:
            listed = (await ask(port, rpc("ListTasks", includeArtifacts=True))).json["result"]
    assert sorted(task["artifacts"][0]["parts"][0]["text"] for task in listed["tasks"]) == ["q5", "q6", "q7"]


async def test_a_silent_stream_is_kept_alive(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    await import_the_host()
    from streaming_queue.protocol_backend.a2a import event_stream, handler

    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(handler, "TASK_AFTER_S", 0.01)
    gate = Gate()
    port = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(rpc("SendStreamingMessage"))
        async with asyncio.timeout(5):
            await peer.reader.readuntil(b": still at it")
        gate.open.set()
        async with asyncio.timeout(5):
            await peer.reader.readuntil(b"TASK_STATE_COMPLETED")
