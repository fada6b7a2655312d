"""Connections that break while an agent is at work: the work is found again, and done once."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import asynccontextmanager
from typing import Any

import pytest
from interop.a2a_agents import SdkSlowMessage, SdkTask, sdk_server
from unit.comm.agents import Agent, Gate, message, soon
from unit.comm.relay import Relay

from streaming_queue.comm.base import HostLimits, HostOptions
from streaming_queue.comm.client import exchange as client_exchange
from streaming_queue.comm.client import liveness
from streaming_queue.comm.context import listening
from streaming_queue.errors import ConnectError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.a2a import exchange
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend

WIRES = {"rpc": ("JSONRPC", "1.0"), "rest": ("HTTP+JSON", "1.0"), "0.3": ("JSONRPC", "0.3")}
KEYED = {"idempotency_key": "k"}


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> tuple[str, str]:
    return WIRES[request.param]


@pytest.fixture(autouse=True)
async def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(importlib.import_module, "streaming_queue.protocol_backend.a2a.host")
    from streaming_queue.protocol_backend.a2a import handler

    monkeypatch.setattr(exchange, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(exchange, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(exchange, "LOOK_AFTER_S", 0.1)
    monkeypatch.setattr(exchange, "SILENT_STREAM_S", 0.1)
    monkeypatch.setattr(liveness, "LOOK_TIMEOUT_S", 0.5)
    monkeypatch.setattr(client_exchange, "HELD_S", 0.05)
    monkeypatch.setattr(handler, "TASK_AFTER_S", 0.05)


@pytest.fixture
async def backend():
    backend = A2ACommBackend()
    yield backend
    await backend.close()


@pytest.fixture
async def relay():
    async with Relay() as relay:
        yield relay


@pytest.fixture
async def ours(
    no_stray_tasks: None, monkeypatch: pytest.MonkeyPatch, wire: tuple[str, str], relay: Relay, backend: A2ACommBackend
):
    """Host an executor behind the relay, reached by this wire only."""
    from streaming_queue.protocol_backend.a2a import own_card

    monkeypatch.setattr(own_card, "_BINDINGS", ((*wire, "/" if wire[0] == "JSONRPC" else ""),))
    host = A2ACommBackend(host_options=HostOptions(limits=HostLimits(stop_s=1.0)))

    async def spawn(executor: Any) -> None:
        handle = await host.spawn_local_agent("w", "127.0.0.1", 0, executor)
        await backend.register_endpoint("w", relay.to(handle.base_url).url)

    yield spawn
    await host.close()


@asynccontextmanager
async def sdk(backend: A2ACommBackend, executor: Any, relay: Relay, wire: tuple[str, str], *, streaming: bool = True):
    async with sdk_server(executor, [wire], streaming=streaming, at=relay.url) as url:
        await backend.register_endpoint("w", relay.to(url).url)
        yield


async def collect(stream: Any) -> list[Any]:
    return [event async for event in stream]


def begin(backend: A2ACommBackend, way: str, text: str = "wait", **metadata: Any) -> asyncio.Task[Any]:
    """Ask by `send` or `stream`; the task's result is the answer's text."""

    async def ask() -> str:
        payload = {"text": text, "metadata": metadata}
        async with asyncio.timeout(30):
            if way == "send":
                return (await backend.send("c", "w", payload))["text"]
            events = await collect(backend.stream("c", "w", payload))
            assert [event["type"] for event in events].count(MESSAGE) == 1
            told = "".join(event["data"] for event in events if event["type"] == DELTA)
            assert events[-1]["data"].startswith(told)
            return events[-1]["data"]

    return asyncio.create_task(ask())


async def under_way(backend: A2ACommBackend, way: str) -> tuple[asyncio.Task[Any], list[None]]:
    """Ask, and wait until the client knows its task; the signs of life that it has seen and will see."""
    signs: list[None] = []
    with listening(lambda: signs.append(None)):
        asking = begin(backend, way)
    await soon(lambda: bool(signs))
    return asking, signs


WAYS = pytest.mark.parametrize("way", ["send", "stream"])


# --- an SDK host ---


@WAYS
@pytest.mark.parametrize("streaming", [True, False], ids=["streams", "polled"])
async def test_a_task_of_another_host_is_found_again(backend: Any, relay: Relay, wire: Any, way: str, streaming: bool):
    agent = SdkTask()
    async with sdk(backend, agent, relay, wire, streaming=streaming):
        asking, _ = await under_way(backend, way)
        for _ in range(3):
            relay.cut()
            await asyncio.sleep(0.1)
        agent.gate.set()
        assert await asking == "wait"
    assert len(agent.contexts) == 1


@WAYS
async def test_an_end_behind_our_back_is_learnt(backend: Any, relay: Relay, wire: Any, way: str):
    agent = SdkTask()
    async with sdk(backend, agent, relay, wire):
        asking, _ = await under_way(backend, way)
        relay.refuse(True)
        agent.gate.set()
        await asyncio.sleep(0.05)
        relay.refuse(False)
        assert await asking == "wait"
    assert len(agent.contexts) == 1


@WAYS
async def test_a_stream_gone_silent_is_looked_after(backend: Any, relay: Relay, wire: Any, way: str):
    agent = SdkTask()
    async with sdk(backend, agent, relay, wire):
        asking, signs = await under_way(backend, way)
        relay.swallow()
        before = len(signs)
        await soon(lambda: len(signs) > before + 2)
        agent.gate.set()
        assert await asking == "wait"
    assert len(agent.contexts) == 1


@pytest.mark.parametrize("streaming", [True, False], ids=["streams", "polled"])
async def test_a_message_whose_task_is_not_known_is_never_sent_again(
    backend: Any, relay: Relay, wire: Any, streaming: bool
):
    agent = SdkSlowMessage()
    async with sdk(backend, agent, relay, wire, streaming=streaming):
        asking = begin(backend, "send", **KEYED)
        await agent.started.wait()
        relay.cut()
        with pytest.raises(ConnectError, match=relay.url):
            await asking
        await asyncio.sleep(0.2)
        agent.gate.set()
    assert agent.runs == 1


@pytest.mark.parametrize("streaming", [True, False], ids=["streams", "polled"])
async def test_a_message_is_answered_at_once(backend: Any, relay: Relay, wire: Any, streaming: bool):
    agent = SdkSlowMessage()
    agent.gate.set()
    async with sdk(backend, agent, relay, wire, streaming=streaming):
        assert await begin(backend, "send") == "answer"
    assert agent.runs == 1


async def test_a_task_that_stays_out_of_reach_is_given_up(backend: Any, relay: Relay, wire: Any):
    agent = SdkTask()
    async with sdk(backend, agent, relay, wire):
        asking, _ = await under_way(backend, "send")
        relay.refuse(True)
        with pytest.raises(ConnectError, match=relay.url):
            await asking
    assert len(agent.contexts) == 1


# --- a host of ours ---


@WAYS
async def test_the_work_of_our_host_is_found_again_by_its_key(backend: Any, relay: Relay, ours: Any, way: str):
    gate = Gate()
    await ours(gate)
    asking = begin(backend, way, **KEYED)
    await gate.started.wait()
    for _ in range(3):
        await asyncio.sleep(0.1)
        relay.cut()
    await asyncio.sleep(0.1)
    gate.open.set()
    assert await asking == "answer 1"
    assert (gate.runs, gate.cancelled) == (1, 0)


@WAYS
async def test_an_answer_lost_on_its_way_is_given_again(backend: Any, relay: Relay, ours: Any, way: str):
    gate = Gate()
    await ours(gate)
    asking = begin(backend, way, **KEYED)
    await gate.started.wait()
    relay.swallow()
    gate.open.set()
    await gate.ended.wait()
    await asyncio.sleep(0.02)
    relay.cut()
    assert await asking == "answer 1"
    assert gate.runs == 1


@WAYS
async def test_a_connection_gone_silent_is_looked_after(backend: Any, relay: Relay, ours: Any, way: str):
    gate, signs = Gate(), []
    await ours(gate)
    with listening(lambda: signs.append(None)):
        asking = begin(backend, way, **KEYED)
    await gate.started.wait()
    await asyncio.sleep(0.02)
    relay.swallow()
    before = len(signs)
    await soon(lambda: len(signs) > before + 2)
    gate.open.set()
    assert await asking == "answer 1"
    assert gate.runs == 1


async def test_a_message_without_a_key_is_not_sent_again(backend: Any, relay: Relay, ours: Any):
    gate = Gate()
    await ours(gate)
    asking = begin(backend, "send")
    await gate.started.wait()
    relay.cut()
    with pytest.raises(ConnectError, match=relay.url):
        await asking
    await asyncio.sleep(0.1)
    assert gate.runs == 1


async def test_a_lost_reply_without_a_key_is_an_error(backend: Any, relay: Relay, ours: Any):
    gate = Gate()
    await ours(gate)
    asking = begin(backend, "send")
    await gate.started.wait()
    relay.swallow()
    gate.open.set()
    with pytest.raises(ConnectError, match=f"{relay.url}: the reply was lost"):
        await asking
    assert gate.runs == 1


async def test_a_host_that_stays_out_of_reach_is_given_up(backend: Any, relay: Relay, ours: Any):
    gate = Gate()
    await ours(gate)
    asking = begin(backend, "send", **KEYED)
    await gate.started.wait()
    relay.refuse(True)
    async with asyncio.timeout(10):
        with pytest.raises(ConnectError, match=relay.url):
            await asking


async def test_nothing_is_told_twice_when_a_stream_is_taken_up_again(backend: Any, relay: Relay, ours: Any):
    go_on = asyncio.Event()

    async def behave(context: Any, queue: Any) -> None:
        for number in range(3):
            await queue.enqueue_event({"type": STATUS, "data": f"step {number}", "metadata": {"done": number}})
            await queue.enqueue_event({"type": DELTA, "data": f"{number},"})
        await go_on.wait()
        await queue.enqueue_event({"type": STATUS, "data": "last step"})
        await queue.enqueue_event({"type": DELTA, "data": "end"})
        await queue.enqueue_event(message("0,1,2,end", metadata={"llm_ms": 1.5}))

    await ours(Agent(behave))
    told: list[Any] = []
    async for event in backend.stream("c", "w", {"text": "q", "metadata": KEYED}):
        told.append(event)
        if event["data"] == "2,":
            relay.cut()
            asyncio.get_running_loop().call_later(0.2, go_on.set)
    assert [event["data"] for event in told if event["type"] == STATUS] == ["step 0", "step 1", "step 2", "last step"]
    assert [event.get("metadata") for event in told if event["type"] == STATUS] == [
        {"done": 0},
        {"done": 1},
        {"done": 2},
        None,
    ]
    assert [event["data"] for event in told if event["type"] == DELTA] == ["0,", "1,", "2,", "end"]
    assert told[-1] == {"type": MESSAGE, "data": "0,1,2,end", "metadata": {"llm_ms": 1.5}}


async def test_a_hung_host_is_given_up(backend: Any, relay: Relay, ours: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(liveness, "LOOK_TIMEOUT_S", 0.05)
    gate = Gate()
    await ours(gate)
    asking = begin(backend, "send", **KEYED)
    await gate.started.wait()
    relay.swallow(new_ones_too=True)
    with pytest.raises(ConnectError, match=f"{relay.url}: the agent is silent and cannot be reached"):
        await asking
