"""What a client that is not ours sees of an agent that we host (docs/protocols/acp.md)."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from unit.comm.agents import LIMITS, Agent, Echo, Gate, message, soon, until
from unit.comm.raw import Answer, ask, connection, get, post

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.host import respond
from streaming_queue.comm.skills import Skill
from streaming_queue.errors import ConfigError, ConnectError, RateLimitedError
from streaming_queue.messages import DELTA, STATUS
from streaming_queue.protocol_backend.acp import runs
from streaming_queue.protocol_backend.acp.comm import AcpCommBackend
from streaming_queue.testing import resource_count

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

SESSION = "1d6c6a0e-5ac3-4bb8-a8c9-6c9a2b6b1d10"


@pytest.fixture
async def spawn():
    """Host an executor as `W 1`; returns the port and the backend."""
    backends: list[AcpCommBackend] = []

    async def spawn(executor: Any, **host_options: Any) -> tuple[int, AcpCommBackend]:
        backend = AcpCommBackend(host_options=HostOptions(**{"limits": LIMITS, **host_options}))
        backends.append(backend)
        handle = await backend.spawn_local_agent("W 1", "127.0.0.1", 0, executor)
        spawn.agents.append(handle)
        await backend.register_endpoint("W 1", handle.base_url)
        return int(handle.base_url.rpartition(":")[2]), backend

    spawn.agents = []
    yield spawn
    for backend in backends:
        await backend.close()


def run(text: str = "hi", mode: str | None = None, *headers: str, **more: Any) -> bytes:
    body = {"agent_name": "w-1", "input": [{"role": "user", "parts": [{"content": text}]}], **more}
    return post("/runs", json.dumps(body if mode is None else {**body, "mode": mode}).encode(), *headers)


def events(answer: Answer) -> list[Any]:
    return [json.loads(line[6:]) for line in answer.body.split(b"\n\n") if line.startswith(b"data: ")]


async def ended(port: int, run_id: str) -> Any:
    run: Any = None

    async def is_over() -> bool:
        nonlocal run
        run = (await ask(port, get(f"/runs/{run_id}"))).json
        return run["status"] not in ("created", "in-progress")

    await until(is_over)
    return run


# --- who is there ---


class Told(Echo):
    description = "Repeats."
    skills = (Skill("a", "Echo", "Says it again.", ("x", "y")), Skill("b", "Shout", "Louder.", ("y",)))


async def test_ping_and_the_manifest(spawn: Any):
    port, backend = await spawn(Told())
    assert (await ask(port, get("/ping"))).json == {}
    manifest = (await ask(port, get("/agents/w-1"))).json
    assert (manifest["name"], manifest["description"]) == ("w-1", "Repeats.")
    assert manifest["metadata"]["capabilities"] == [
        {"name": "Echo", "description": "Says it again."},
        {"name": "Shout", "description": "Louder."},
    ]
    assert manifest["metadata"]["tags"] == ["x", "y"]
    assert (await ask(port, get("/agents"))).json == {"agents": [manifest]}
    assert (await ask(port, get("/agents?limit=1&offset=0"))).json == {"agents": [manifest]}
    assert (await ask(port, get("/agents?offset=1"))).json == {"agents": []}
    told = await backend.describe("W 1")
    assert told["capabilities"] == ["Echo", "Shout"]
    assert told["call extension"] is True


@pytest.mark.parametrize(("name", "value"), [("description", 5), ("skills", ("answer",))])
async def test_a_manifest_that_cannot_be_written_is_refused(spawn: Any, name: str, value: Any):
    executor = Echo()
    setattr(executor, name, value)
    with pytest.raises(ConfigError, match=rf"agent 'W 1': its executor's {name}"):
        await spawn(executor)


@pytest.mark.parametrize(
    ("request_", "status", "code", "allow"),
    [
        (get("/"), 404, "not_found", None),
        (get("/agents/nobody"), 404, "not_found", None),
        (get("/runs/nonsense"), 404, "not_found", None),
        (get(f"/runs/{SESSION}"), 404, "not_found", None),
        (get(f"/runs/{SESSION}/events"), 404, "not_found", None),
        (post(f"/runs/{SESSION}/cancel", b""), 404, "not_found", None),
        (get(f"/sessions/{SESSION}"), 404, "not_found", None),
        (get(f"/resources/{SESSION}"), 404, "not_found", None),
        (get("/runs"), 405, "invalid_input", "POST"),
        (post("/agents", b"{}"), 405, "invalid_input", "GET"),
        (get(f"/runs/{SESSION}/cancel"), 405, "invalid_input", "POST"),
        (get("/agents?limit=many"), 422, "invalid_input", None),
        (get("/agents?offset=-1"), 422, "invalid_input", None),
    ],
)
async def test_other_paths_and_methods(spawn: Any, request_: bytes, status: int, code: str, allow: str | None):
    port, _ = await spawn(Echo())
    answer = await ask(port, request_)
    assert (answer.status, answer.json["code"], answer.headers.get("allow")) == (status, code, allow)
    assert isinstance(answer.json["message"], str)


async def test_an_agent_that_drains_answers_no_ping_and_takes_no_run(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    (agent,) = spawn.agents
    asked = asyncio.create_task(ask(port, run()))
    await gate.started.wait()
    draining = asyncio.create_task(agent.drain(5))
    await asyncio.sleep(0)
    assert (await ask(port, get("/ping"))).status == 503
    refused = await ask(port, run())
    assert (refused.status, refused.json["code"], refused.json["data"]["code"]) == (503, "server_error", "unavailable")
    gate.open.set()
    await draining
    assert (await asked).json["output"][0]["parts"][0]["content"] == "answer 1"


async def test_what_the_guard_refuses_is_an_error_of_acp(spawn: Any):
    async def authenticate(credential: str) -> str | None:
        return credential if credential in ("ada", "bob") else None

    port, _ = await spawn(Echo(), authenticator=authenticate)
    for request in (run(), get("/agents")):
        refused = await ask(port, request)
        assert (refused.status, refused.json["code"], refused.json["data"]["code"]) == (401, "server_error", "auth")
        assert "bearer credential" in refused.json["message"]
    assert (await ask(port, get("/ping"))).status == 200
    ada = "Authorization: Bearer ada"
    mine = await ask(port, run("hi", None, ada, session_id=SESSION))
    run_id = mine.headers["run-id"]
    [resource, _] = (await ask(port, get(f"/sessions/{SESSION}", ada))).json["history"]
    paths = [f"/runs/{run_id}", f"/sessions/{SESSION}", resource.partition("localhost")[2]]
    for path in paths:
        assert (await ask(port, get(path, ada))).status == 200
        assert (await ask(port, get(path, "Authorization: Bearer bob"))).status == 404


# --- runs ---


async def test_a_run_in_mode_sync_without_a_content_type(spawn: Any):
    port, _ = await spawn(Echo())
    answer = await ask(port, run())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == {
        "run_id": answer.headers["run-id"],
        "agent_name": "w-1",
        "session_id": None,
        "status": "completed",
        "await_request": None,
        "output": [
            {
                "role": "agent/w-1",
                "parts": [{"content_type": "text/plain", "content": "hi", "content_encoding": "plain"}],
            }
        ],
        "error": None,
        "created_at": answer.json["created_at"],
        "finished_at": answer.json["finished_at"],
    }
    assert str(uuid.UUID(answer.headers["run-id"])) == answer.headers["run-id"]
    again = (await ask(port, get(f"/runs/{answer.headers['run-id']}"))).json
    assert again == answer.json
    assert (await ask(port, get(f"/runs/{answer.headers['run-id'].upper()}"))).json == again


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"parts": [{"content": "a"}, {"content": "b", "content_type": "text/markdown"}]}], "ab"),
        ([{"role": "user", "parts": [{"content": "a"}]}, {"role": "agent/x", "parts": [{"content": "b"}]}], "a\nb"),
        ([{"parts": [{"content": "5LqM", "content_encoding": "base64"}]}], "二"),
        ([{"parts": [{"content": "a"}, {"content": None, "metadata": {"kind": "trajectory"}}]}], "a"),
        ([{"parts": [{"content": "", "name": None, "content_url": None}], "created_at": "x"}], ""),
    ],
)
async def test_the_text_of_messages(spawn: Any, messages: Any, text: str):
    port, _ = await spawn(Echo())
    answer = await ask(port, run(input=messages))
    assert answer.json["output"][0]["parts"][0]["content"] == text


BAD: list[Any] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"agent_name": "w-1"}',
    b'{"agent_name": 5, "input": [{"parts": [{"content": "x"}]}]}',
    b'{"agent_name": "w-1", "agent_name": "w-1", "input": [{"parts": [{"content": "x"}]}]}',
    b'{"agent_name": "w-1", "input": [{"parts": [{"content": NaN}]}]}',
    {"input": "x"},
    {"input": []},
    {"input": ["x"]},
    {"input": [{"parts": "x"}]},
    {"input": [{"parts": ["x"]}]},
    {"input": [{"parts": [{"content": 5}]}]},
    {"input": [{"parts": []}]},
    {"input": [{"parts": [{"content_url": "http://169.254.169.254/"}]}]},
    {"input": [{"parts": [{"content": "AAAA", "content_type": "image/png", "content_encoding": "base64"}]}]},
    {"input": [{"parts": [{"content": "?", "content_encoding": "base64"}]}]},
    {"input": [{"parts": [{"content": "/w==", "content_encoding": "base64"}]}]},
    {"mode": "later"},
    {"metadata": []},
    {"session_id": "nonsense"},
    {"session": "nonsense"},
    {"session": {"history": []}},
    {"session": {"id": SESSION, "history": "x"}},
    {"session": {"id": SESSION, "history": [5]}},
    {"session": {"id": SESSION, "state": 5}},
    {"session": {"id": SESSION}, "session_id": SESSION.replace("1", "2")},
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
async def test_what_is_no_request_is_invalid_input(spawn: Any, bad: Any):
    port, _ = await spawn(Echo())
    answer = await ask(port, post("/runs", bad) if isinstance(bad, bytes) else run(**bad))
    assert (answer.status, answer.json["code"]) == (422, "invalid_input")
    assert (answer.json["data"]["code"], answer.json["data"]["retryable"]) == ("protocol", False)


async def test_an_agent_that_is_not_here(spawn: Any):
    port, _ = await spawn(Echo())
    answer = await ask(port, run(agent_name="someone"))
    assert (answer.status, answer.json) == (
        404,
        {"code": "not_found", "message": "there is no agent 'someone' here, only 'w-1'"},
    )


async def test_a_run_that_failed_is_http_200_and_says_so(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        if context.get_user_input() == "slow down":
            raise RateLimitedError("too many", retry_after_s=2.5)
        raise ValueError("s3cret")

    port, _ = await spawn(Agent(behave))
    told = await ask(port, run("slow down"))
    assert (told.status, told.json["status"], told.json["output"]) == (200, "failed", [])
    assert told.json["error"] == {
        "code": "server_error",
        "message": "too many",
        "data": {"type": "agent_error", "code": "rate_limited", "retryable": True, "retry_after_s": 2.5},
    }
    streamed = events(await ask(port, run("x", "stream")))
    assert [event["type"] for event in streamed] == ["run.created", "run.in-progress", "run.failed"]
    assert "s3cret" not in json.dumps(streamed)


async def _story(context: Any, queue: Any) -> None:
    await queue.enqueue_event({"type": STATUS, "data": "looking it up", "metadata": {"page": 3}})
    await queue.enqueue_event({"type": DELTA, "data": "Once upon "})
    await queue.enqueue_event({"type": DELTA, "data": "a time."})
    await queue.enqueue_event(message("Once upon a time.", metadata={"llm_ms": 950.1}))


async def test_a_run_in_mode_stream(spawn: Any):
    port, _ = await spawn(Agent(_story))
    answer = await ask(port, run("x", "stream"))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    told = events(answer)
    assert [event["type"] for event in told] == [
        "run.created",
        "run.in-progress",
        "generic",
        "message.created",
        "message.part",
        "message.part",
        "message.completed",
        "run.completed",
    ]
    assert [told[0]["run"]["status"], told[1]["run"]["status"]] == ["created", "in-progress"]
    assert told[2]["generic"] == {"type": STATUS, "data": "looking it up", "metadata": {"page": 3}}
    assert told[3]["message"] == {"role": "agent/w-1", "parts": []}
    assert [event["part"]["content"] for event in told[4:6]] == ["Once upon ", "a time."]
    assert told[6]["message"]["parts"][0]["content"] == "Once upon a time."
    assert told[7]["run"]["output"] == [told[6]["message"]]
    assert told[7]["run"]["metadata"] == {"llm_ms": 950.1}
    run_id = answer.headers["run-id"]
    assert {event["run"]["run_id"] for event in told if "run" in event} == {run_id}
    listed = (await ask(port, get(f"/runs/{run_id}/events"))).json["events"]
    assert listed == told


async def test_an_answer_in_one_piece_is_a_message_that_is_whole_from_the_beginning(spawn: Any):
    port, _ = await spawn(Echo())
    told = events(await ask(port, run("hi", "stream")))
    assert [event["type"] for event in told[2:]] == [
        "message.created",
        "message.part",
        "message.completed",
        "run.completed",
    ]
    assert told[2]["message"]["parts"] == [told[3]["part"]]


async def test_a_silent_stream_and_a_late_answer_show_signs_of_life(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.02)

    async def behave(context: Any, queue: Any) -> None:
        await asyncio.sleep(0.1)
        await queue.enqueue_event(message("late"))

    port, _ = await spawn(Agent(behave))
    streamed = await ask(port, run("x", "stream"))
    assert streamed.body.count(b":\n\n") >= 2
    whole = await ask(port, run("x"))
    assert whole.body.startswith(b"\n\n")
    assert (whole.json["status"], whole.json["run_id"]) == ("completed", whole.headers["run-id"])


async def test_a_run_in_mode_async_goes_on_alone_and_can_be_watched(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    answer = await ask(port, run("x", "async"))
    run_id = answer.headers["run-id"]
    assert (answer.status, answer.json["status"], answer.json["run_id"]) == (202, "created", run_id)
    await gate.started.wait()
    assert (await ask(port, get(f"/runs/{run_id}"))).json["status"] == "in-progress"
    under_way = (await ask(port, get(f"/runs/{run_id}/events"))).json["events"]
    assert [event["type"] for event in under_way] == ["run.created", "run.in-progress"]
    gate.open.set()
    assert (await ended(port, run_id))["output"][0]["parts"][0]["content"] == "answer 1"
    assert gate.cancelled == 0


async def test_what_json_cannot_hold_is_the_agents_failure_in_every_mode(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": STATUS, "data": "x", "metadata": {"x": object()}})
        await queue.enqueue_event(message("x", metadata={"x": object()}))

    port, _ = await spawn(Agent(behave))
    whole = (await ask(port, run("x"))).json
    streamed = events(await ask(port, run("x", "stream")))
    begun = (await ask(port, run("x", "async"))).json
    for told in (whole, streamed[-1]["run"], await ended(port, begun["run_id"])):
        assert told["status"] == "failed"
        assert "cannot be sent as JSON" in told["error"]["message"]
    assert [event["type"] for event in streamed] == ["run.created", "run.in-progress", "run.failed"]
    listed = (await ask(port, get(f"/runs/{begun['run_id']}/events"))).json["events"]
    assert [event["type"] for event in listed] == ["run.created", "run.in-progress", "run.failed"]


# --- cancel, resume ---


async def test_cancel(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    begun = (await ask(port, run("x", "async"))).json["run_id"]
    waiting = asyncio.create_task(ask(port, run("y")))
    await soon(lambda: gate.runs == 2)
    cancelled = await ask(port, post(f"/runs/{begun}/cancel", b""))
    assert (cancelled.status, cancelled.json["status"], cancelled.json["run_id"]) == (202, "cancelling", begun)
    assert (await ended(port, begun))["status"] == "cancelled"
    assert gate.cancelled == 1
    told = (await ask(port, get(f"/runs/{begun}/events"))).json["events"]
    assert told[-1]["type"] == "run.cancelled"
    again = await ask(port, post(f"/runs/{begun}/cancel", b""))
    assert (again.status, again.json["code"]) == (403, "server_error")
    gate.open.set()
    assert (await waiting).json["status"] == "completed"


async def test_the_reader_of_a_run_that_is_cancelled_is_told(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    waiting = [
        asyncio.create_task(ask(port, run("x", mode, f"Run-ID: {uuid.UUID(int=n)}")))
        for n, mode in enumerate(("sync", "stream"), 1)
    ]
    await soon(lambda: gate.runs == 2)
    for number in (1, 2):
        assert (await ask(port, post(f"/runs/{uuid.UUID(int=number)}/cancel", b""))).status == 202
    whole, streamed = await asyncio.gather(*waiting)
    assert whole.json["status"] == "cancelled"
    assert events(streamed)[-1]["type"] == "run.cancelled"


async def test_a_command_is_not_cancelled(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    begun = (await ask(port, run("dispatch", "async", "stq-kind: command"))).json["run_id"]
    await gate.started.wait()
    assert (await ask(port, post(f"/runs/{begun}/cancel", b""))).status == 403
    gate.open.set()
    assert (await ended(port, begun))["status"] == "completed"


async def test_a_run_that_awaits_nothing_is_not_resumed(spawn: Any):
    port, _ = await spawn(Echo())
    run_id = (await ask(port, run())).headers["run-id"]
    body = b'{"await_resume": {"type": "message", "message": {"role": "user", "parts": []}}, "mode": "sync"}'
    answer = await ask(port, post(f"/runs/{run_id}", body))
    assert (answer.status, answer.json["code"]) == (403, "server_error")
    assert "awaits no input" in answer.json["message"]


# --- sessions ---


async def test_a_session_is_kept_and_given_to_the_agent(spawn: Any):
    seen: list[str | None] = []

    async def behave(context: Any, queue: Any) -> None:
        seen.append(context.context_id)
        await queue.enqueue_event(message(f"answer to {context.get_user_input()}"))

    port, _ = await spawn(Agent(behave))
    for text, more in [
        ("one", {"session_id": SESSION}),
        ("two", {"session": {"id": SESSION.upper(), "history": ["http://elsewhere/1"], "state": None}}),
    ]:
        answer = await ask(port, run(text, None, **more))
        assert (answer.json["status"], answer.json["session_id"]) == ("completed", SESSION)
    assert seen == [SESSION, SESSION]
    session = (await ask(port, get(f"/sessions/{SESSION}"))).json
    assert (session["id"], session["state"], len(session["history"])) == (SESSION, None, 4)
    said = []
    for url in session["history"]:
        assert url.startswith("http://localhost/resources/")
        said.append((await ask(port, get(url.removeprefix("http://localhost")))).json)
    assert [item["role"] for item in said] == ["user", "agent/w-1"] * 2
    assert [item["parts"][0]["content"] for item in said] == ["one", "answer to one", "two", "answer to two"]


async def test_a_session_that_began_elsewhere_keeps_its_addresses(spawn: Any):
    port, _ = await spawn(Echo())
    given = {"id": SESSION, "history": ["http://elsewhere/1", "http://elsewhere/2"], "state": "http://elsewhere/s"}
    await ask(port, run("three", None, session=given))
    session = (await ask(port, get(f"/sessions/{SESSION}"))).json
    assert (session["history"][:2], len(session["history"]), session["state"]) == (given["history"], 4, given["state"])


async def test_a_run_that_failed_adds_nothing_to_its_session(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        raise RateLimitedError("no")

    port, _ = await spawn(Agent(behave))
    await ask(port, run("x", None, session_id=SESSION))
    assert (await ask(port, get(f"/sessions/{SESSION}"))).json["history"] == []


async def test_runs_that_fail_do_not_pile_up_sessions(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streaming_queue.protocol_backend.acp.sessions.MAX_SESSIONS", 5)

    async def behave(context: Any, queue: Any) -> None:
        raise RateLimitedError("no")

    port, _ = await spawn(Agent(behave))
    for _ in range(10):
        await ask(port, run("x", None, session_id=str(uuid.uuid4())))
    assert len(spawn.agents[0].sessions) == 5


# --- leaving and coming back ---


@pytest.mark.parametrize("mode", ["sync", "stream"])
async def test_whoever_vanishes_comes_back_by_its_key(spawn: Any, mode: str):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(run("x", mode, "Idempotency-Key: k"))
        await gate.started.wait()
        peer.reset()
    again = asyncio.create_task(ask(port, run("x", None, "Idempotency-Key: k")))
    await asyncio.sleep(0.05)
    gate.open.set()
    assert (await again).json["output"][0]["parts"][0]["content"] == "answer 1"
    assert gate.runs == 1


async def test_whoever_vanishes_without_a_key_ends_the_run(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(run("x", "stream"))
        run_id = (await peer.head()).headers["run-id"]
        await gate.started.wait()
        peer.reset()
    await soon(lambda: gate.cancelled == 1)
    assert (await ended(port, run_id))["status"] == "failed"


async def test_a_key_belongs_to_one_text(spawn: Any):
    port, _ = await spawn(Echo())
    await ask(port, run("one", None, "Idempotency-Key: k"))
    answer = await ask(port, run("two", None, "Idempotency-Key: k"))
    assert (answer.status, answer.json["data"]["code"]) == (422, "protocol")


async def test_a_run_has_the_id_it_is_wished_unless_that_is_taken_or_none(spawn: Any):
    port, _ = await spawn(Echo())
    wish = "00000000-0000-4000-8000-000000000001"
    ids = [(await ask(port, run("x", None, f"Run-ID: {text}"))).headers["run-id"] for text in (wish, wish, "nonsense")]
    assert ids[0] == wish
    assert len({*ids, "nonsense"}) == 4


async def test_stopping_fails_what_is_under_way_in_every_mode(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    (agent,) = spawn.agents
    begun = (await ask(port, run("a", "async"))).status
    waiting = [asyncio.create_task(ask(port, run("x", mode))) for mode in ("sync", "stream")]
    await soon(lambda: gate.runs == 3)
    await agent.stop()
    whole, streamed = await asyncio.gather(*waiting)
    assert begun == 202
    for told in (whole.json, events(streamed)[-1]["run"]):
        assert (told["status"], told["error"]["data"]["code"]) == ("failed", ConnectError.code)
    assert gate.cancelled == 3


# --- nothing is left behind ---


async def test_a_thousand_runs_of_every_mode_leave_no_task_and_bounded_memory(
    spawn: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "MAX_ENDED", 100)
    monkeypatch.setattr("streaming_queue.protocol_backend.acp.sessions.MAX_SESSIONS", 50)
    port, _ = await spawn(Echo())
    (agent,) = spawn.agents
    async with connection(port) as peer:
        for number in range(1050):
            if number == 50:
                before = resource_count.tasks()
            await peer.write(run("x", ("sync", "async", "stream")[number % 3], session_id=str(uuid.uuid4())))
            await peer.answer()
        await soon(lambda: not agent._executions._running)
        assert sorted(resource_count.tasks()) == sorted(before)
        kept = agent.runs
        assert len(kept) == 100
        assert not kept._in_flight
        assert all(ended.execution is None for _, ended in kept._ended.items())
        assert len(agent.sessions) == 50
        assert agent.sessions._sessions.size == sum(item.size for _, item in agent.sessions._sessions.items())
        assert (
            kept._ended.size
            == sum(len(event["data"]) for _, ended in kept._ended.items() for event in ended.events)
            > 0
        )
        assert agent._executions._by_identity == {}


async def test_long_answers_are_forgotten_sooner(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runs, "MAX_CHARACTERS", 2500)
    monkeypatch.setattr("streaming_queue.protocol_backend.acp.sessions.MAX_CHARACTERS", 5000)
    port, _ = await spawn(Echo())
    (agent,) = spawn.agents
    ids = [(await ask(port, run("x" * 1000, None, session_id=str(uuid.uuid4())))).headers["run-id"] for _ in range(4)]
    statuses = [(await ask(port, get(f"/runs/{run_id}"))).status for run_id in ids]
    assert statuses == [404, 404, 200, 200]
    assert len(agent.sessions) == 2


async def test_a_run_is_kept_for_a_while(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runs, "KEPT_S", 0.05)
    port, _ = await spawn(Echo())
    run_id = (await ask(port, run())).headers["run-id"]

    async def is_gone() -> bool:
        return (await ask(port, get(f"/runs/{run_id}"))).status == 404

    await until(is_gone)
