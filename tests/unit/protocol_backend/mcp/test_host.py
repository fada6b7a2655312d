"""An agent as an MCP server: what is on the wire, and what it demands."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from unit.comm.agents import LIMITS, Agent, Echo, Gate, message, soon
from unit.comm.raw import Answer, ask, connection, get, post

from streaming_queue.comm.base import HostLimits, HostOptions
from streaming_queue.comm.context import listening
from streaming_queue.comm.host import respond
from streaming_queue.errors import AgentFailedError, RateLimitedError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.mcp.comm import McpCommBackend
from streaming_queue.protocol_backend.mcp.dialect import (
    CAPABILITIES_KEY,
    CONTEXT_KEY,
    ERROR_KEY,
    EVENT_KEY,
    IDEMPOTENCY_KEY,
    METADATA_KEY,
    READY_KEY,
    VERSION_KEY,
)

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

MODERN = "2026-07-28"
JSON = "Content-Type: application/json"
BOTH = "Accept: application/json, text/event-stream"


@pytest.fixture
async def spawn():
    """Host an executor; returns the port and a backend that knows it as `w`."""
    backends: list[McpCommBackend] = []

    async def spawn(executor: Any, version: str = MODERN, **options: Any) -> tuple[int, McpCommBackend]:
        backend = McpCommBackend(version=version, host_options=HostOptions(**{"limits": LIMITS, **options}))
        backends.append(backend)
        handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, executor)
        await backend.register_endpoint("w", handle.base_url)
        return int(handle.base_url.split(":")[2].removesuffix("/mcp")), backend

    yield spawn
    for backend in backends:
        await backend.close()


def older(method: str, params: Any = None, *headers: str, number: Any = 1) -> bytes:
    """A request of a revision with a handshake."""
    document: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        document["params"] = params
    if number is not None:
        document["id"] = number
    return post("/mcp", json.dumps(document).encode(), JSON, BOTH, *headers)


def modern(method: str, params: Any = None, *headers: str, **envelope: Any) -> bytes:
    """A request that stands for itself."""
    meta = {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}} | (params or {}).get("_meta", {}) | envelope
    document = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**(params or {}), "_meta": meta}}
    fields = [f"MCP-Protocol-Version: {MODERN}", f"Mcp-Method: {method}", *headers]
    if method == "tools/call" and not any(header.startswith("Mcp-Name") for header in headers):
        fields.append("Mcp-Name: ask")
    return post("/mcp", json.dumps(document).encode(), JSON, BOTH, *fields)


def call(text: Any = "x", **meta: Any) -> dict[str, Any]:
    return {"name": "ask", "arguments": {"question": text}, **({"_meta": meta} if meta else {})}


def result(answer: Answer) -> Any:
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["jsonrpc"] == "2.0"
    return answer.json["result"]


def events(answer: Answer) -> list[Any]:
    assert answer.headers["content-type"] == "text/event-stream"
    lines = answer.body.decode().split("\n\n")
    return [json.loads(line.removeprefix("event: message\ndata: ")) for line in lines if line.startswith("event")]


async def behave(context: Any, queue: Any) -> None:
    if context.get_user_input() == "fail":
        raise RateLimitedError("slow down", retry_after_s=2.5)
    await queue.enqueue_event({"type": STATUS, "data": "thinking", "metadata": {"n": 1}})
    await queue.enqueue_event({"type": DELTA, "data": "fi"})
    await queue.enqueue_event(message("fine", metadata={"llm_ms": 1.5}))


# --- what it says ---


async def test_what_a_modern_server_says(spawn: Any):
    port, _ = await spawn(Agent(behave))
    about = result(await ask(port, modern("server/discover")))
    assert about["supportedVersions"] == [MODERN, "2025-11-25", "2025-06-18"]
    assert about["capabilities"] == {"tools": {}, "extensions": {"streaming-queue/agent": {}}}
    assert (about["resultType"], about["cacheScope"], about["_meta"][READY_KEY]) == ("complete", "private", True)
    (tool,) = result(await ask(port, modern("tools/list")))["tools"]
    assert (tool["name"], tool["inputSchema"]["required"]) == ("ask", ["question"])
    said = result(await ask(port, modern("tools/call", call())))
    assert said["content"] == [{"type": "text", "text": "fine"}]
    assert (said["isError"], said["resultType"], said["_meta"][METADATA_KEY]) == (False, "complete", {"llm_ms": 1.5})
    assert said["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "w"
    for method in ("initialize", "ping", "prompts/list"):
        answer = await ask(port, modern(method))
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (404, -32601, 1)


@pytest.mark.parametrize(
    ("wanted", "agreed"),
    [("2025-11-25", "2025-11-25"), ("2025-06-18", "2025-06-18"), ("2025-03-26", "2025-11-25"), ("x", "2025-11-25")],
)
async def test_what_a_server_of_the_older_revisions_says(spawn: Any, wanted: str, agreed: str):
    port, _ = await spawn(Agent(behave))
    answer = await ask(port, older("initialize", {"protocolVersion": wanted, "capabilities": {}, "clientInfo": {}}))
    assert result(answer)["protocolVersion"] == agreed
    assert result(answer)["capabilities"] == {"tools": {}, "experimental": {"streaming-queue/agent": {}}}
    session = f"Mcp-Session-Id: {answer.headers['mcp-session-id']}"
    assert (await ask(port, older("notifications/initialized", None, session, number=None))).status == 202
    assert result(await ask(port, older("ping", None, session)))["_meta"] == {READY_KEY: True}
    assert len(result(await ask(port, older("tools/list", None, session)))["tools"]) == 1
    said = result(await ask(port, older("tools/call", call(), session, number="one")))
    assert said == {
        "content": [{"type": "text", "text": "fine"}],
        "isError": False,
        "_meta": {METADATA_KEY: {"llm_ms": 1.5}},
    }
    for method in ("server/discover", "prompts/list"):
        answer = await ask(port, older(method, None, session))
        assert (answer.status, answer.json["error"]["code"]) == (200, -32601)


async def test_the_description_of_an_executor_is_the_tools(spawn: Any):
    agent = Echo()
    agent.description = "Says it again."
    port, _ = await spawn(agent)
    (tool,) = result(await ask(port, older("tools/list")))["tools"]
    assert (tool["title"], tool["description"]) == ("w", "Says it again.")


async def test_a_failure_is_a_result_with_all_that_is_known(spawn: Any):
    port, _ = await spawn(Agent(behave))
    said = result(await ask(port, older("tools/call", call("fail"))))
    assert (said["isError"], said["content"][0]["text"]) == (True, "slow down")
    event = said["_meta"][ERROR_KEY]
    assert (event["code"], event["retryable"], event["retry_after_s"]) == ("rate_limited", True, 2.5)


async def test_progress_is_told_under_the_callers_token(spawn: Any):
    port, _ = await spawn(Agent(behave))
    for token in ("t", 7):
        answer = await ask(port, modern("tools/call", call(progressToken=token)))
        first, second, end = events(answer)
        assert first["method"] == second["method"] == "notifications/progress"
        assert first["params"] == {
            "progressToken": token,
            "progress": 1,
            "message": "thinking",
            "_meta": {EVENT_KEY: STATUS, METADATA_KEY: {"n": 1}},
        }
        assert (second["params"]["progress"], second["params"]["message"]) == (2, "fi")
        assert (end["id"], end["result"]["content"][0]["text"]) == (1, "fine")


async def test_who_takes_no_events_gets_json(spawn: Any):
    port, _ = await spawn(Agent(behave))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call(progressToken=1)}).encode()
    for accept in (["Accept: application/json"], []):
        said = result(await ask(port, post("/mcp", body, JSON, *accept)))
        assert said["content"][0]["text"] == "fine"


async def test_our_two_ends_keep_what_an_event_is(spawn: Any):
    for version in (MODERN, "2025-11-25"):
        _, backend = await spawn(Agent(behave), version)
        metadata = {"question_id": "问", "attempt": 2, "traceparent": "00-1", "more": [1]}
        seen = [event async for event in backend.stream("c", "w", {"text": "x", "metadata": metadata})]
        assert seen == [
            {"type": STATUS, "data": "thinking", "metadata": {"n": 1}},
            {"type": DELTA, "data": "fi"},
            {"type": MESSAGE, "data": "fine", "metadata": {"llm_ms": 1.5}},
        ]
        with pytest.raises(RateLimitedError, match="slow down") as caught:
            await backend.send("c", "w", {"text": "fail"})
        assert caught.value.retry_after_s == 2.5
        assert (await backend.describe("w"))["protocol"] == f"MCP {version}"


async def test_what_json_cannot_hold_is_a_failure(spawn: Any):
    async def odd(context: Any, queue: Any) -> None:
        if context.streaming:
            await queue.enqueue_event({"type": STATUS, "data": "x", "metadata": {"it": object()}})
        await queue.enqueue_event(message("fine", metadata={"it": object()}))

    _, backend = await spawn(Agent(odd))
    with pytest.raises(AgentFailedError, match="cannot be sent as JSON"):
        await backend.send("c", "w", {"text": "x"})
    with pytest.raises(AgentFailedError, match="cannot be sent as JSON"):
        _ = [event async for event in backend.stream("c", "w", {"text": "x"})]


# --- signs of life ---


async def test_a_long_answer_shows_that_it_is_under_way(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.05)
    gate = Gate()
    port, backend = await spawn(gate)
    for meta in ({}, {"progressToken": 1}):
        gate.open.clear()
        heard: list[int] = []
        with listening(lambda heard=heard: heard.append(1)):
            if meta:
                asked = asyncio.create_task(anext(backend.stream("c", "w", {"text": "x"})))
            else:
                asked = asyncio.create_task(backend.send("c", "w", {"text": "x"}))
        await soon(lambda heard=heard: len(heard) > 3)
        gate.open.set()
        assert (await asked)["data" if meta else "text"].startswith("answer")
        async with connection(port) as peer:
            gate.open.clear()
            await peer.write(modern("tools/call", call(**meta)))
            await asyncio.sleep(0.15)
            gate.open.set()
            answer = await peer.answer()
            assert answer.body.startswith(b": at work\n\n" if meta else b"\n\n")


# --- what it demands ---


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (post("/mcp", b"", JSON), 400, -32700),
        (post("/mcp", b"{", JSON), 400, -32700),
        (post("/mcp", b'{"a": 1, "a": 2}', JSON), 400, -32700),
        (post("/mcp", b"[]", JSON), 400, -32600),
        (post("/mcp", b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', JSON), 400, -32600),
        (post("/mcp", b'{"id": 1, "method": "ping"}', JSON), 400, -32600),
        (post("/mcp", b"{}", "Content-Type: text/plain"), 415, -32600),
        (older("ping", number=[1]), 400, -32600),
        (older("ping", number=True), 400, -32600),
        (older("ping", [1]), 400, -32600),
        (older("ping", None, "MCP-Protocol-Version: 1999-01-01"), 400, -32022),
        (older("tools/call", {"name": "other", "arguments": {"question": "x"}}), 200, -32602),
        (older("tools/call", {"name": "ask"}), 200, -32602),
        (older("tools/call", call(7)), 200, -32602),
        (modern("tools/call", {"name": "ask", "arguments": {}}), 400, -32602),
        (modern("tools/call", call(), "Mcp-Name: other"), 400, -32020),
        (modern("tools/call", call(), "Mcp-Name: =?base64?*?="), 400, -32020),
        (modern("tools/list", None, **{VERSION_KEY: "2025-11-25"}), 400, -32020),
        (modern("tools/list", None, **{CAPABILITIES_KEY: None}), 400, -32602),
        (older("tools/list", None, f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: tools/list"), 400, -32602),
        (modern("tools/list").replace(b"Mcp-Method: tools/list", b"Mcp-Method: ping"), 400, -32020),
    ],
    ids=range(21),
)
async def test_requests_that_are_refused(spawn: Any, request_: bytes, status: int, code: int):
    gate = Gate()
    port, _ = await spawn(gate)
    answer = await ask(port, request_)
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    assert gate.runs == 0
    if code == -32022:
        assert answer.json["error"]["data"]["supported"][0] == MODERN


async def test_a_name_may_be_in_base64(spawn: Any):
    port, _ = await spawn(Echo())
    assert result(await ask(port, modern("tools/call", call(), "Mcp-Name: =?base64?YXNr?=")))["isError"] is False


async def test_other_paths_and_methods(spawn: Any):
    port, _ = await spawn(Echo())
    assert (await ask(port, get("/health"))).json == {"status": "ok", "agent_id": "w"}
    assert (await ask(port, get("/nothing"))).status == 404
    answer = await ask(port, get("/mcp"))
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert (await ask(port, get("/mcp").replace(b"GET", b"DELETE"))).status == 405
    response = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {}}).encode()
    assert (await ask(port, post("/mcp", response, JSON))).status == 202
    assert (await ask(port, older("notifications/cancelled", {"requestId": 9}, number=None))).status == 202
    assert (
        await ask(port, older("notifications/cancelled", {"requestId": {}}, "Mcp-Session-Id: s", number=None))
    ).status == 202


async def test_the_guard_stands_before_it(spawn: Any):
    async def authenticator(credential: str) -> str | None:
        return "ada" if credential == "right" else None

    seen: list[str | None] = []

    async def who(context: Any, queue: Any) -> None:
        seen.append(context.principal)
        await queue.enqueue_event(message("fine"))

    port, _ = await spawn(Agent(who), authenticator=authenticator, limits=HostLimits(body_bytes=500))
    assert (await ask(port, older("tools/call", call()))).status == 401
    assert (await ask(port, older("tools/call", call(), "Authorization: Bearer right"))).status == 200
    assert seen == ["ada"]
    assert (await ask(port, get("/health"))).status == 200
    assert (await ask(port, older("tools/call", call("x" * 600), "Authorization: Bearer right"))).status == 413
    assert (
        await ask(port, older("ping", None, "Origin: http://evil.example", "Authorization: Bearer right"))
    ).status == 403


async def test_an_agent_that_drains_says_so(spawn: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    (agent,) = backend._agents
    asked = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
    await gate.started.wait()
    draining = asyncio.create_task(agent.drain(5))
    await asyncio.sleep(0)
    answer = await ask(port, get("/health"))
    assert (answer.status, answer.json["status"]) == (503, "draining")
    assert result(await ask(port, modern("server/discover")))["_meta"][READY_KEY] is False
    assert result(await ask(port, older("ping")))["_meta"] == {READY_KEY: False}
    assert not await backend.health_check("w")
    said = result(await ask(port, older("tools/call", call())))
    assert said["_meta"][ERROR_KEY]["code"] == "unavailable"
    gate.open.set()
    assert (await asked)["text"] == "answer 1"
    await draining


# --- cancelling ---


@pytest.mark.parametrize("send", [modern, older], ids=["modern", "older"])
async def test_leaving_cancels_a_question_without_a_key(spawn: Any, send: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(send("tools/call", call()))
        await gate.started.wait()
    await soon(lambda: gate.cancelled == 1)


@pytest.mark.parametrize(
    ("cancel", "cancels"),
    [
        (older("notifications/cancelled", {"requestId": 5}, "Mcp-Session-Id: s", number=None), True),
        (older("notifications/cancelled", {"requestId": 5}, "Mcp-Session-Id: another", number=None), False),
        (older("notifications/cancelled", {"requestId": 6}, "Mcp-Session-Id: s", number=None), False),
        (older("notifications/cancelled", {"requestId": "5"}, "Mcp-Session-Id: s", number=None), False),
        (older("notifications/cancelled", {"requestId": 5}, number=None), False),
        (older("notifications/cancelled", {"_meta": {IDEMPOTENCY_KEY: "k"}}, number=None), True),
        (older("notifications/cancelled", {"_meta": {IDEMPOTENCY_KEY: "l"}}, number=None), False),
        (older("notifications/cancelled", {"_meta": {IDEMPOTENCY_KEY: 7}}, number=None), False),
        (older("notifications/other", {"requestId": 5}, "Mcp-Session-Id: s", number=None), False),
    ],
    ids=range(9),
)
async def test_a_cancel_finds_its_question_and_no_other(spawn: Any, cancel: bytes, cancels: bool):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        context = {CONTEXT_KEY: {"idempotency_key": "k"}}
        await peer.write(older("tools/call", call(**context), "Mcp-Session-Id: s", number=5))
        await gate.started.wait()
        assert (await ask(port, cancel)).status == 202
        assert gate.cancelled == cancels
        gate.open.set()
        said = result(await peer.answer())
        assert said["isError"] is cancels


async def test_a_command_is_not_cancelled_by_its_id(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        context = {CONTEXT_KEY: {"kind": "command"}}
        await peer.write(older("tools/call", call(**context), "Mcp-Session-Id: s", number=5))
        await gate.started.wait()
        await ask(port, older("notifications/cancelled", {"requestId": 5}, "Mcp-Session-Id: s", number=None))
        gate.open.set()
        assert result(await peer.answer())["content"][0]["text"] == "answer 1"
    assert gate.cancelled == 0


async def test_in_a_session_our_cancel_needs_no_key(spawn: Any):
    gate = Gate()
    _, backend = await spawn(gate, "2025-11-25")
    asking = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
    await gate.started.wait()
    asking.cancel()
    await asyncio.wait({asking}, timeout=1)
    assert asking.cancelled()
    await soon(lambda: gate.cancelled == 1)
