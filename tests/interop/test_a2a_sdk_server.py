"""Our client asks a server made of the official SDK alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from interop.a2a_agents import SdkEcho, SdkTask, sdk_server
from unit.comm.agents import soon

from streaming_queue.errors import AgentFailedError, AuthError, RemoteError, SendTimeoutError, StreamingQueueError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.a2a import comm
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend

WIRES = {
    "rpc": [("JSONRPC", "1.0")],
    "rest": [("HTTP+JSON", "1.0")],
    "0.3": [("JSONRPC", "0.3")],
    "grpc": [("GRPC", "1.0")],
}


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    return WIRES[request.param]


@pytest.fixture
async def backend(wire: list[tuple[str, str]]):
    backend = A2ACommBackend(binding=wire[0][0])
    yield backend
    await backend.close()


async def collect(stream: Any) -> list[Any]:
    return [event async for event in stream]


@pytest.mark.parametrize("text", ["hello", "中 🦜 \r\n\t\x00\u2028 \"'", "x" * 500_000], ids=["plain", "odd", "long"])
async def test_a_message_is_answered_by_a_message(backend: Any, wire: Any, text: str):
    async with sdk_server(SdkEcho(), wire) as url:
        await backend.register_endpoint("w", url)
        assert await backend.health_check("w")
        metadata = {"run_id": "r", "attempt": 2, "mine": {"a": [1, None]}}
        reply = await backend.send("c", "w", {"text": text, "metadata": metadata})
        assert reply["text"] == text
        assert reply["metadata"] == {"seen": metadata}
        assert await collect(backend.stream("c", "w", {"text": text})) == [
            {"type": MESSAGE, "data": text, "metadata": {"seen": {}}}
        ]


@pytest.mark.parametrize("executor", [SdkEcho, SdkTask])
async def test_an_agent_is_described_without_being_asked(backend: Any, wire: Any, executor: Any):
    async with sdk_server(executor(), wire) as url:
        await backend.register_endpoint("w", url)
        facts = await backend.describe("w")
        binding, version = wire[0]
        assert facts["used"].startswith(f"{binding} {version} at {url.rpartition(':')[0]}:")
        assert facts["name"]


async def test_parallel_answers_are_never_swapped(backend: Any, wire: Any):
    async with sdk_server(SdkEcho(), wire) as url:
        await backend.register_endpoint("w", url)
        replies = await asyncio.gather(*(backend.send("c", "w", {"text": f"q{n}"}) for n in range(100)))
        assert [reply["text"] for reply in replies] == [f"q{n}" for n in range(100)]


@pytest.mark.parametrize("text", ["hello", "中" * 170_000], ids=["short", "long"])
async def test_a_task_is_followed_to_its_answer(backend: Any, wire: Any, text: str):
    async with sdk_server(SdkTask(), wire) as url:
        await backend.register_endpoint("w", url)
        assert (await backend.send("c", "w", {"text": text}))["text"] == text
        events = await collect(backend.stream("c", "w", {"text": text}))
        assert events[0] == {"type": STATUS, "data": "at it"}
        assert "".join(event["data"] for event in events if event["type"] == DELTA) == text
        assert len(events) >= 4
        assert events[-1]["type"] == MESSAGE
        assert events[-1]["data"] == text


@pytest.mark.parametrize(
    ("state", "cls", "retryable"),
    [
        ("failed", AgentFailedError, True),
        ("rejected", AgentFailedError, True),
        ("canceled", AgentFailedError, True),
        ("input-required", AgentFailedError, True),
        ("auth-required", AuthError, False),
    ],
)
async def test_another_end_of_a_task_is_no_answer(backend: Any, wire: Any, state: str, cls: Any, retryable: bool):
    async with sdk_server(SdkTask(), wire) as url:
        await backend.register_endpoint("w", url)
        for ask in (backend.send("c", "w", {"text": state}), collect(backend.stream("c", "w", {"text": state}))):
            with pytest.raises(cls, match=f"{url}: .*no, thanks") as caught:
                await ask
            assert type(caught.value) is cls
            assert caught.value.retryable is retryable


async def test_an_exception_of_the_agent_is_a_remote_failure(backend: Any, wire: Any):
    async with sdk_server(SdkTask(), wire) as url:
        await backend.register_endpoint("w", url)
        for ask in (backend.send("c", "w", {"text": "raise"}), collect(backend.stream("c", "w", {"text": "raise"}))):
            with pytest.raises(RemoteError, match=url):
                await ask


async def test_closing_a_stream_cancels_the_task(backend: Any, wire: Any):
    agent = SdkTask()
    async with sdk_server(agent, wire) as url:
        await backend.register_endpoint("w", url)
        stream = backend.stream("c", "w", {"text": "wait"})
        assert (await anext(stream))["data"] == "at it"
        started = time.monotonic()
        await stream.aclose()
        assert time.monotonic() - started < 5
        await soon(lambda: agent.cancelled == 1)


async def test_an_agent_that_does_not_stream_is_asked_whole(backend: Any, wire: Any):
    async with sdk_server(SdkEcho(), wire, streaming=False) as url:
        await backend.register_endpoint("w", url)
        events = await collect(backend.stream("c", "w", {"text": "q"}))
        assert [(event["type"], event["data"]) for event in events] == [(MESSAGE, "q")]


async def test_a_silent_agent_is_given_up_at_the_deadline(backend: Any, wire: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comm, "DEADLINE_MARGIN_S", 0.2)
    agent = SdkTask()
    async with sdk_server(agent, wire) as url:
        await backend.register_endpoint("w", url)
        for ask in (backend.send, lambda *args: collect(backend.stream(*args))):
            started = time.monotonic()
            with pytest.raises(SendTimeoutError, match=url):
                await ask("c", "w", {"text": "wait", "metadata": {"deadline_ms": 0}})
            assert time.monotonic() - started < 5
        agent.gate.set()


async def test_every_failure_names_the_address(backend: Any, wire: Any):
    async with sdk_server(SdkEcho(), wire) as url:
        await backend.register_endpoint("w", url)
    with pytest.raises(StreamingQueueError, match=url):
        await backend.send("c", "w", {"text": "q"})
