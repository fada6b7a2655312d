"""Agents that ask each other, over real wires."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from streaming_queue.comm import registry
from streaming_queue.comm.context import CallContext, calling
from streaming_queue.core.executors import CoordinatorExecutor
from streaming_queue.core.network_base import HOP_LIMIT, NetworkBase
from streaming_queue.core.qa_coordinator_base import QACoordinatorBase
from streaming_queue.errors import AgentFailedError, BadResponseError, TopologyError, UnreachableError
from streaming_queue.messages import MESSAGE
from streaming_queue.telemetry.events import DeadLettered, Event, WorkerDown

over_each_wire = pytest.mark.parametrize(
    "protocol", ["inproc", "http", "a2a", "acp", "grpc", "ws", "nats", "agora", "mcp", "anp"]
)


class Peer:
    """Asks `peers` what it was asked and merges their answers with its own; without peers it answers alone."""

    def __init__(self, name: str, *peers: str) -> None:
        self.name = name
        self.peers = peers
        self.asked: list[Any] = []

    async def execute(self, context: Any, event_queue: Any) -> None:
        self.asked.append(context)
        payload = {"text": context.get_user_input(), "metadata": {"hops": 0, "idempotency_key": "mine"}}
        replies = await asyncio.gather(*(context.call(peer, payload) for peer in self.peers))
        merged = " + ".join([self.name, *(reply["text"] for reply in replies)])
        await event_queue.enqueue_event({"type": MESSAGE, "data": merged})


@pytest.fixture
async def mesh(protocol: str):
    network = NetworkBase(registry.create(protocol))
    yield network
    await network.close()


async def host(network: NetworkBase, *peers: Any) -> None:
    for peer in peers:
        handle = await network.comm_backend.spawn_local_agent(peer.name, "127.0.0.1", 0, peer)
        await network.register_agent(peer.name, handle.base_url)
    network.setup_mesh_topology()


async def ask(network: NetworkBase, to: str) -> Any:
    with calling(CallContext(question_id="q", idempotency_key="run/q", kind="question")):
        return await network.route_message("Runner", to, {"text": "Why?"})


@over_each_wire
async def test_a_worker_asks_another_and_merges(mesh: NetworkBase) -> None:
    second, third = Peer("B", "C"), Peer("C")
    await host(mesh, Peer("A", "B", "C"), second, third)
    assert (await ask(mesh, "A"))["text"] == "A + B + C + C"
    assert [context.call_context.hops for context in second.asked] == [1]
    assert sorted(context.call_context.hops for context in third.asked) == [1, 2]
    assert {context.call_context.question_id for context in third.asked} == {"q"}


@over_each_wire
async def test_one_peer_may_be_asked_twice_on_one_question(mesh: NetworkBase) -> None:
    second = Peer("B")
    await host(mesh, Peer("A", "B", "B", "B"), second)
    assert (await ask(mesh, "A"))["text"] == "A + B + B + B"
    assert len(second.asked) == 3
    assert len({context.call_context.idempotency_key for context in second.asked}) == 3


@over_each_wire
async def test_a_circle_ends_at_the_hop_limit_whatever_an_agent_says_of_its_hops(mesh: NetworkBase) -> None:
    peers = [Peer("A", "B"), Peer("B", "C"), Peer("C", "A")]
    await host(mesh, *peers)
    async with asyncio.timeout(20):
        error = (await ask(mesh, "A"))["error"]
    assert type(error) is TopologyError
    assert f"forwarded more than {HOP_LIMIT} times" in str(error)
    assert sum(len(peer.asked) for peer in peers) == HOP_LIMIT + 1


@over_each_wire
async def test_only_neighbours_are_asked(mesh: NetworkBase) -> None:
    await host(mesh, Peer("A", "B"), Peer("B"))
    await mesh.disconnect_agents("A", "B")
    assert isinstance((await ask(mesh, "A"))["error"], UnreachableError)


@over_each_wire
async def test_a_neighbours_error_is_raised_as_the_same_class(mesh: NetworkBase) -> None:
    class Broken(Peer):
        async def execute(self, context: Any, event_queue: Any) -> None:
            raise BadResponseError("nonsense")

    await host(mesh, Peer("A", "B"), Broken("B"))
    error = (await ask(mesh, "A"))["error"]
    assert type(error) is BadResponseError
    assert "nonsense" in str(error)


@over_each_wire
async def test_a_dead_neighbour_is_not_taken_for_the_death_of_who_asks_it(mesh: NetworkBase) -> None:
    await host(mesh, Peer("A", "B"), Peer("B"))
    await mesh.kill_agents(["B"])
    error = (await ask(mesh, "A"))["error"]
    assert type(error) is AgentFailedError
    assert error.retryable
    assert "neighbour 'B' cannot be reached" in str(error)


@over_each_wire
@pytest.mark.parametrize("circle", [False, True])
async def test_a_round_over_a_mesh(mesh: NetworkBase, tmp_path: Path, protocol: str, *, circle: bool) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"id": f"q{number}", "q": f"q{number}?"}) + "\n" for number in range(8)))
    events: list[Event] = []
    settings = {"qa": {"coordinator": {"data_file": str(questions)}}, "output": {"dir": str(tmp_path / "run")}}
    coordinator = QACoordinatorBase(settings, events.append)
    executor = CoordinatorExecutor(coordinator=coordinator)
    executor.name = coordinator.coordinator_id
    workers = [Peer("Worker-1", "Worker-2"), Peer("Worker-2", *(["Worker-1"] if circle else []))]
    await host(mesh, executor, *workers)
    coordinator.set_network(mesh, ["Worker-1", "Worker-2"])
    await coordinator.dispatch_round()
    rows = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert {row["attempts"] for row in rows} == {1}
    assert not [event for event in events if isinstance(event, WorkerDown)]
    if circle:
        assert {event.failure.type for event in events if isinstance(event, DeadLettered)} == {"TopologyError"}
        assert all(f"forwarded more than {HOP_LIMIT} times" in row["error"]["message"] for row in rows)
    else:
        assert {row["answer"] for row in rows} == {"Worker-1 + Worker-2", "Worker-2"}
