"""acp-sdk 1.0.3, the protocol's own library: its client against our host, our client against its server."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from compat.conftest import environment

from streaming_queue.comm.base import HostOptions
from streaming_queue.errors import AgentFailedError, ConnectError, RateLimitedError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.acp.comm import AcpCommBackend
from streaming_queue.testing import Agent, message, soon
from streaming_queue.testing.relay import Relay

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("no_stray_tasks")]  # the first builds the environment

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def python() -> str:
    """Python with acp-sdk; its server imports with these only."""
    return str(environment("acp-sdk", "acp-sdk==1.0.3", "uvicorn<0.36", "fastapi<0.132") / "python")


@pytest.fixture
async def backend() -> AsyncIterator[AcpCommBackend]:
    backend = AcpCommBackend()
    yield backend
    await backend.close()


# --- its client, our host ---


async def _behave(context: Any, queue: Any) -> None:
    text = context.get_user_input()
    if text == "wait":
        await asyncio.Event().wait()
    if text == "fail":
        raise RateLimitedError("too many", retry_after_s=2)
    if text == "tell me a story":
        await queue.enqueue_event({"type": STATUS, "data": "looking it up"})
        await queue.enqueue_event({"type": DELTA, "data": "Once upon "})
        await queue.enqueue_event({"type": DELTA, "data": "a time."})
        return
    await queue.enqueue_event(message(f"answer to {text}", metadata={"llm_ms": 1.5}))


async def test_its_client_understands_our_host(backend: AcpCommBackend, python: str) -> None:
    handle = await backend.spawn_local_agent("Worker 1", "127.0.0.1", 0, Agent(_behave))
    told = await _told(python, "everything", handle.base_url, "worker-1")
    begun = ["run.created", "run.in-progress"]
    assert told["agents"] == [["worker-1", "Answers questions in plain text."]]
    assert told["manifest"] == ["worker-1", ["Answer"]]
    assert told["sync"] == ["completed", "answer to hello", "agent/worker-1"]
    assert told["parts"] == "answer to ab\nab"
    assert told["stream"] == [
        [*begun, "generic", "message.created", "message.part", "message.part", "message.completed", "run.completed"],
        ["Once upon ", "a time."],
        "Once upon a time.",
    ]
    one_piece = [*begun, "message.created", "message.part", "message.completed", "run.completed"]
    assert told["whole stream"] == [one_piece, ["answer to hello"], "answer to hello"]
    assert told["async"] == ["created", "answer to hello"]
    assert told["events"] == one_piece
    assert told["cancel"] == ["cancelling", "cancelled"]
    assert told["failed"] == ["failed", "server_error", "too many"]
    assert told["failed stream"] == [[*begun, "run.failed"], [], None]
    assert told["session"] == [
        1,
        ["answer to one", "answer to two"],
        [["user", "one"], ["agent/worker-1", "answer to one"], ["user", "two"], ["agent/worker-1", "answer to two"]],
    ]
    assert told["resume"][0] == "server_error"
    assert "awaits no input" in told["resume"][1]
    assert told["nobody"] == ["not_found", "there is no agent 'nobody' here, only 'worker-1'"]
    assert told["no run"][0] == "not_found"


async def test_its_client_understands_a_refusal(python: str) -> None:
    async def authenticate(credential: str) -> str | None:
        del credential
        return None

    backend = AcpCommBackend(host_options=HostOptions(authenticator=authenticate))
    try:
        handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(_behave))
        told = await _told(python, "refusal", handle.base_url, "w")
        assert told["sync"] == ["server_error", "the bearer credential is not valid"]
    finally:
        await backend.close()


async def _told(python: str, *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        python, str(HERE / "acp_sdk_client.py"), *arguments, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode == 0
    told: dict[str, Any] = json.loads(said)
    return told


# --- our client, its server ---


@pytest.fixture
def address(python: str) -> Iterator[str]:
    process = subprocess.Popen([python, str(HERE / "acp_sdk_server.py")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


@pytest.fixture
async def peer(backend: AcpCommBackend, address: str) -> AcpCommBackend:
    """Our client; it knows the server's agents by their names."""
    for name in ("echo", "pieces", "headers", "fails", "gated", "asks", "opens"):
        await backend.register_endpoint(name, address)
    return backend


async def test_our_client_asks_its_server(peer: AcpCommBackend, address: str) -> None:
    text = "问\n\t\x00\U0001f600" + "x" * 100_000
    for number in range(20):
        assert (await peer.send("c", "echo", {"text": f"{number} {text}"}))["text"] == f"{number} {text}"
    assert await peer.health_check("echo")
    await peer.register_endpoint("by its name", f"{address}/agents/pieces")
    assert (await peer.send("c", "by its name", {"text": "q"}))["text"] == "Once upon a time."
    described = await peer.describe("echo")
    assert (described["description"], described["call extension"]) == ("Says it again.", False)
    context = {"question_id": "q-7", "attempt": 2, "kind": "question"}
    sent = json.loads((await peer.send("c", "headers", {"text": "q", "metadata": context}))["text"])
    assert sent == {"stq-question-id": "q-7", "stq-attempt": "2", "stq-kind": "question"}


async def test_our_client_reads_its_streams(peer: AcpCommBackend) -> None:
    events = [event async for event in peer.stream("c", "pieces", {"text": "q"})]
    assert events == [
        {"type": DELTA, "data": "Once upon "},
        {"type": STATUS, "data": '{"thinking":"of an end"}', "metadata": {"thinking": "of an end"}},
        {"type": DELTA, "data": "a time."},
        {"type": MESSAGE, "data": "Once upon a time."},
    ]
    assert [event async for event in peer.stream("c", "echo", {"text": "q"})] == [{"type": MESSAGE, "data": "q"}]


async def test_its_failures_are_typed(peer: AcpCommBackend, address: str) -> None:
    with pytest.raises(AgentFailedError, match="'invalid_input': 'cannot answer that'") as caught:
        await peer.send("c", "fails", {"text": "q"})
    assert caught.value.retryable is False
    with pytest.raises(AgentFailedError, match="awaits further input"):
        await peer.send("c", "asks", {"text": "q"})
    await peer.register_endpoint("nobody", address)
    with pytest.raises(ConnectError, match=r"which of its agents is 'nobody'\?; there are 'echo'"):
        await peer.send("c", "nobody", {"text": "q"})
    assert not await peer.health_check("nobody")


async def test_a_cancel_reaches_its_server(peer: AcpCommBackend) -> None:
    stream: Any = peer.stream("c", "gated", {"text": "q"})
    assert (await anext(stream))["data"] == "first, "
    [agent] = [known for name, known in peer._peers.items() if name == "gated"]
    asked: list[str] = []
    ask = agent.ask

    async def noted(method: str, url: Any, *more: Any) -> dict[str, Any]:
        asked.append(f"{method} {url.path}")
        return await ask(method, url, *more)

    agent.ask = noted  # type: ignore[method-assign]
    await stream.aclose()
    [line] = asked
    assert line.endswith("/cancel")
    url = agent.runs / line.split("/")[-2]
    for _ in range(100):
        state = (await ask("GET", url))["status"]
        if state == "cancelled":
            break
        await asyncio.sleep(0.02)
    assert state == "cancelled"


@pytest.mark.parametrize("way", ["send", "stream"])
async def test_a_broken_connection_to_its_server_costs_no_second_run(
    peer: AcpCommBackend, address: str, way: str
) -> None:
    relay = Relay.to(address)
    assert relay is not None
    async with relay:
        await peer.register_endpoint("gated", relay.address(address))
        told: list[Any] = []
        asking = asyncio.create_task(_ask(peer, way, told))
        first = {"send": lambda: b"first, " in relay.received, "stream": lambda: _deltas(told) == "first, "}[way]
        await soon(first, 10)
        relay.reset()
        await relay.restore()
        seen = json.loads((await peer.send("c", "opens", {"text": "q"}))["text"])
        assert await asyncio.wait_for(asking, 10) == "first, then"
        assert seen == {"started": 1}


async def _ask(peer: AcpCommBackend, way: str, told: list[Any]) -> str:
    if way == "send":
        return str((await peer.send("c", "gated", {"text": "q"}))["text"])
    async for event in peer.stream("c", "gated", {"text": "q"}):
        told.append(event)  # noqa: PERF401 (they are looked at as they come)
    assert _deltas(told) == told[-1]["data"]
    return str(told[-1]["data"])


def _deltas(told: list[Any]) -> str:
    return "".join(event["data"] for event in told if event["type"] == DELTA)
