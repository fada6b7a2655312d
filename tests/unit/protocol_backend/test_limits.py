"""What our clients take of a peer that keeps to no limit: the same over every protocol.

The peers are our own hosts, over their own wires, of which the host's half of the limit is taken away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from unit.comm.agents import LIMITS, Agent, message

from streaming_queue.comm import answer_limit, strict_json
from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.host import execution
from streaming_queue.comm.registry import create
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import DELTA, StreamEvent
from streaming_queue.protocol_backend.a2a import grpc_interface
from streaming_queue.protocol_backend.a2a.card import GRPC

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

OVER_GRPC = "a2a by gRPC"
WIRES = ("http", "a2a", OVER_GRPC, "grpc", "ws", "nats", "acp", "anp", "agora", "mcp")
LIMIT = 1024 * 1024


class NoMeter(answer_limit.AnswerMeter):
    def take(self, event: StreamEvent) -> None:
        """Take anything."""


@pytest.fixture
async def backend(name: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr(execution, "AnswerMeter", NoMeter)
    monkeypatch.setattr(answer_limit, "MAX_ANSWER_BYTES", LIMIT)
    options: dict[str, Any] = {"grpc": True, "binding": GRPC} if name == OVER_GRPC else {}
    backend = create(name.partition(" ")[0], host_options=HostOptions(limits=LIMITS), **options)
    yield backend
    await backend.close()


async def host(backend: Any, behave: Any) -> None:
    agent = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(behave))
    await backend.register_endpoint("w", agent.base_url)


async def send(backend: Any) -> Any:
    return await backend.send("c", "w", {"text": "q"})


async def stream(backend: Any) -> list[Any]:
    return [event async for event in backend.stream("c", "w", {"text": "q"})]


async def is_refused(asked: Any, *, retryable: bool = True) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(ProtocolError) as caught:
            await asked
    assert caught.value.retryable is retryable


@pytest.mark.parametrize("name", [name for name in WIRES if name != "agora"])  # it has no pieces
async def test_a_peer_that_streams_for_ever_is_cut(backend: Any) -> None:
    async def behave(context: Any, queue: Any) -> None:
        while True:
            await queue.enqueue_event({"type": DELTA, "data": "x" * 50_000})
            await asyncio.sleep(0)

    await host(backend, behave)
    await is_refused(stream(backend))


@pytest.mark.parametrize("name", WIRES)
async def test_a_whole_answer_has_the_same_limit(backend: Any) -> None:
    sizes = iter((LIMIT, LIMIT + 1, LIMIT + 1))

    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message("x" * next(sizes)))

    await host(backend, behave)
    assert len((await send(backend))["text"]) == LIMIT
    for ask in (send, stream):
        await is_refused(ask(backend))


@pytest.mark.parametrize("name", WIRES)
async def test_an_answer_has_no_more_values_than_may_be(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "MAX_ANSWER_VALUES", 5000)
    monkeypatch.setattr(grpc_interface, "MAX_ANSWER_VALUES", 5000)
    counts = iter((4900, 5000, 5000))

    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message("x", metadata={"values": [0] * next(counts)}))

    await host(backend, behave)
    assert (await send(backend))["metadata"]["values"] == [0] * 4900
    for ask in (send, stream):
        await is_refused(ask(backend), retryable=False)
