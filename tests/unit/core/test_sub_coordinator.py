from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any
from urllib.parse import urlsplit

import pytest
from unit.comm.agents import until

from streaming_queue.comm import registry
from streaming_queue.comm.context import CallContext, annotate, calling
from streaming_queue.core.executors import WorkerExecutor
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.qa_worker_base import QAWorkerBase
from streaming_queue.core.sub_coordinator import SubCoordinatorExecutor
from streaming_queue.errors import (
    AgentFailedError,
    ConnectError,
    LLMTimeoutError,
    QuotaError,
    RateLimitedError,
    SendTimeoutError,
    StreamingQueueError,
    TopologyError,
)
from streaming_queue.messages import DELTA, MESSAGE, Reply

LEVELS = [
    ("inproc", "inproc"),
    ("http", "a2a"),
    ("a2a", "http"),
    ("inproc", "http"),
    ("ws", "ws"),
    ("grpc", "grpc"),
    ("nats", "nats"),
    ("acp", "acp"),
    ("mcp", "mcp"),
    ("anp", "anp"),
]
over_each_pair = pytest.mark.parametrize("protocols", LEVELS, ids="-over-".join)


class Member:
    """Answers with its name, or as `behave(context, event_queue)` does; keeps what it was asked."""

    def __init__(self, name: str, behave: Callable[[Any, Any], Awaitable[None]] | None = None) -> None:
        self.name = name
        self.asked: list[Any] = []
        self.behave = behave or self.answer

    async def answer(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event({"type": MESSAGE, "data": f"{self.name}: {context.get_user_input()}"})

    async def execute(self, context: Any, event_queue: Any) -> None:
        self.asked.append(context)
        await self.behave(context, event_queue)


class House:
    """Pools over real backends, and whoever asks them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.handles: dict[str, Any] = {}
        self.networks: dict[str, NetworkBase] = {}

    async def network(self, protocol: str, agents: dict[str, Any]) -> NetworkBase:
        network = NetworkBase(registry.create(protocol))
        self._stack.push_async_callback(network.close)
        for agent_id, executor in agents.items():
            handle = await network.comm_backend.spawn_local_agent(agent_id, "127.0.0.1", 0, executor)
            await network.register_agent(agent_id, handle.base_url)
            self.handles[agent_id] = handle
            self.networks[agent_id] = network
        return network

    async def pool(
        self,
        pool_id: str,
        protocol: str,
        agents: dict[str, Any],
        elsewhere: Sequence[tuple[str, str]] = (),
        *,
        slots: int = 2,
    ) -> SubCoordinatorExecutor:
        network = await self.network(protocol, agents)
        for agent_id, address in elsewhere:
            await network.register_agent(agent_id, address)
        await network.register_agent(pool_id)
        network.setup_star_topology(pool_id)
        members = network.get_agents()
        sub = SubCoordinatorExecutor(pool_id, network, dict.fromkeys(members, slots), probe_interval_s=0.05)
        self._stack.push_async_callback(sub.close)
        return sub

    async def revive(self, agent_id: str, executor: Any) -> None:
        """Host an agent again where it was."""
        port = urlsplit(self.handles[agent_id].base_url).port or 0
        backend = self.networks[agent_id].comm_backend
        async with asyncio.timeout(30):
            while True:
                try:
                    handle = await backend.spawn_local_agent(agent_id, "127.0.0.1", port, executor)
                except ConnectError:  # a connection of another test has this port for a moment
                    await asyncio.sleep(0.1)
                else:
                    self.handles[agent_id] = handle
                    return


@pytest.fixture
async def house():
    async with AsyncExitStack() as stack:
        yield House(stack)


async def ask(network: NetworkBase, text: str = "Why?", **context: Any) -> Reply:
    call = CallContext(**{"question_id": "q", "idempotency_key": f"run/{text}", "kind": "question"} | context)
    with calling(call):
        return await network.route_message("Runner", "Sub-1", {"text": text, "metadata": {"mine": 1}})


@over_each_pair
async def test_a_member_answers_and_its_figures_come_up(house: House, protocols: tuple[str, str]) -> None:
    async def measured(context: Any, event_queue: Any) -> None:
        annotate(llm_ms=12.5, ttft_ms=3.0, model="m", mock=True, usage={"total_tokens": 7})
        await event_queue.enqueue_event({"type": MESSAGE, "data": "because"})

    top, below = protocols
    member = Member("Worker-1", measured)
    network = await house.network(top, {"Sub-1": await house.pool("Sub-1", below, {"Worker-1": member})})
    reply = await ask(network, run_id="run", attempt=2, deadline=time.monotonic() + 30)
    assert reply["text"] == "because"
    assert reply["metadata"] == {
        "llm_ms": 12.5, "ttft_ms": 3.0, "model": "m", "mock": True, "usage": {"total_tokens": 7},
    }  # fmt: skip
    (context,) = member.asked
    call = context.call_context
    assert (call.run_id, call.question_id, call.attempt, call.kind) == ("run", "q", 2, "question")
    assert (call.hops, call.idempotency_key) == (1, "run/Why?/1")
    assert 25 < call.deadline - time.monotonic() < 30
    assert context.metadata["mine"] == 1


@over_each_pair
@pytest.mark.parametrize(
    "error",
    [LLMTimeoutError("the model was silent"), AgentFailedError("never", retryable=False), QuotaError("no credit")],
)
async def test_a_members_error_comes_up_as_the_same_class(
    house: House, protocols: tuple[str, str], error: StreamingQueueError
) -> None:
    async def fail(context: Any, event_queue: Any) -> None:
        raise error

    top, below = protocols
    network = await house.network(
        top, {"Sub-1": await house.pool("Sub-1", below, {"Worker-1": Member("Worker-1", fail)})}
    )
    caught = (await ask(network))["error"]
    assert (type(caught), caught.retryable) == (type(error), error.retryable)
    assert str(error) in str(caught)


@over_each_pair
async def test_every_question_is_answered_by_whoever_is_free(house: House, protocols: tuple[str, str]) -> None:
    top, below = protocols
    members = {f"Worker-{number}": Member(f"Worker-{number}") for number in (1, 2, 3)}
    network = await house.network(top, {"Sub-1": await house.pool("Sub-1", below, members)})
    replies = await asyncio.gather(*(ask(network, f"q{number}") for number in range(30)))
    assert sorted(reply["text"].partition(": ")[2] for reply in replies) == sorted(f"q{number}" for number in range(30))
    assert sorted({reply["text"].partition(": ")[0] for reply in replies}) == sorted(members)
    assert sum(len(member.asked) for member in members.values()) == 30


@over_each_pair
async def test_a_members_death_costs_a_question_nothing_and_the_pools_death_is_told_until_it_is_over(
    house: House, protocols: tuple[str, str]
) -> None:
    top, below = protocols
    members = {name: Member(name) for name in ("Worker-1", "Worker-2")}
    network = await house.network(top, {"Sub-1": await house.pool("Sub-1", below, members)})

    async def healthy() -> bool:
        return (await network.health_check(["Sub-1"]))["Sub-1"]

    assert await healthy()
    await house.handles["Worker-1"].stop()
    assert {(await ask(network, f"q{number}"))["text"] for number in range(4)} == {
        f"Worker-2: q{number}" for number in range(4)
    }
    assert await healthy()
    await house.handles["Worker-2"].stop()
    error = (await ask(network, "nobody"))["error"]
    assert isinstance(error, ConnectError)
    assert "no worker can be reached: Worker-1, Worker-2" in str(error)
    assert not await healthy()
    await house.revive("Worker-1", members["Worker-1"])
    await until(healthy)
    assert (await ask(network, "again"))["text"] == "Worker-1: again"


@over_each_pair
async def test_a_cancelled_question_is_cancelled_at_the_member(house: House, protocols: tuple[str, str]) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang(context: Any, event_queue: Any) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    top, below = protocols
    sub = await house.pool("Sub-1", below, {"Worker-1": Member("Worker-1", hang)})
    network = await house.network(top, {"Sub-1": sub})
    asking = asyncio.create_task(ask(network))
    await started.wait()
    asking.cancel()
    async with asyncio.timeout(5):
        await ended.wait()

    async def idle() -> bool:
        return sub.balancer.figures()["busy"] == 0

    await until(idle)


@over_each_pair
async def test_the_deadline_holds_on_every_level(house: House, protocols: tuple[str, str]) -> None:
    ended = asyncio.Event()

    async def hang(context: Any, event_queue: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    top, below = protocols
    network = await house.network(
        top, {"Sub-1": await house.pool("Sub-1", below, {"Worker-1": Member("Worker-1", hang)})}
    )
    error = (await ask(network, deadline=time.monotonic() + 0.3))["error"]
    assert isinstance(error, SendTimeoutError)
    async with asyncio.timeout(5):
        await ended.wait()


@over_each_pair
async def test_pieces_are_passed_on_as_they_come(house: House, protocols: tuple[str, str]) -> None:
    first = asyncio.Event()

    class Slow(QAWorkerBase):
        async def stream_answer(self, question: str) -> AsyncGenerator[str, None]:
            yield "one "
            await first.wait()
            yield "two"

    top, below = protocols
    worker = WorkerExecutor(worker=Slow({}))
    network = await house.network(top, {"Sub-1": await house.pool("Sub-1", below, {"Worker-1": worker})})
    pieces = []
    async with aclosing(network.stream_message("Runner", "Sub-1", {"text": "?"})) as events:
        async for event in events:
            pieces.append(event["data"])
            first.set()
    assert event["type"] == MESSAGE
    assert "".join(pieces[:-1]) == pieces[-1] == "one two"


async def test_an_answer_that_broke_off_after_its_first_piece_is_not_begun_anew_elsewhere(house: House) -> None:
    async def broken(context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event({"type": DELTA, "data": "half an ans"})
        raise ConnectError("reset")

    members = {name: Member(name, broken) for name in ("Worker-1", "Worker-2")}
    network = await house.network("inproc", {"Sub-1": await house.pool("Sub-1", "inproc", members)})
    events = [event async for event in network.stream_message("Runner", "Sub-1", {"text": "?"})]
    assert [event["type"] for event in events] == [DELTA, "agent_error"]
    assert isinstance(events[-1]["error"], AgentFailedError)
    assert events[-1]["error"].retryable
    assert sum(len(member.asked) for member in members.values()) == 1


@over_each_pair
async def test_the_status_tells_the_pools_figures(house: House, protocols: tuple[str, str]) -> None:
    top, below = protocols
    members = {name: Member(name) for name in ("Worker-1", "Worker-2")}
    network = await house.network(top, {"Sub-1": await house.pool("Sub-1", below, members, slots=3)})
    for number in range(4):
        await ask(network, f"q{number}")
    reply = await ask(network, "status", kind="command", idempotency_key=None)
    assert reply["text"] == "Sub-1: 2 of 2 workers up, 0 of 6 slots busy, 0 questions waiting, 4 answered"
    member = {"state": "up", "slots": 3, "busy": 0, "answered": 2, "failed": 0}
    assert reply["metadata"] == {"slots": 6, "busy": 0, "waiting": 0, "members": dict.fromkeys(members, member)}
    assert (await ask(network, "status"))["text"].startswith("Worker-"), "untagged it is a question like any other"


async def test_three_levels_and_three_protocols(house: House) -> None:
    leaves = {f"Worker-{number}": Member(f"Worker-{number}") for number in range(1, 5)}
    left = await house.pool("Left", "inproc", {name: leaves[name] for name in ("Worker-1", "Worker-2")})
    right = await house.pool("Right", "a2a", {name: leaves[name] for name in ("Worker-3", "Worker-4")})
    network = await house.network(
        "a2a", {"Sub-1": await house.pool("Sub-1", "http", {"Left": left, "Right": right}, slots=4)}
    )
    replies = await asyncio.gather(*(ask(network, f"q{number}") for number in range(40)))
    assert {reply["text"].partition(": ")[0] for reply in replies} == set(leaves)
    assert {context.call_context.hops for leaf in leaves.values() for context in leaf.asked} == {2}
    await house.handles["Left"].stop()
    await house.handles["Worker-3"].stop()
    assert {(await ask(network, f"r{number}"))["text"] for number in range(9)} == {
        f"Worker-4: r{number}" for number in range(9)
    }
    await house.handles["Worker-4"].stop()
    assert isinstance((await ask(network, "nobody"))["error"], ConnectError)
    assert not (await network.health_check(["Sub-1"]))["Sub-1"]


async def test_when_every_member_slows_down_the_parent_is_told_for_how_long(house: House) -> None:
    async def limited(context: Any, event_queue: Any) -> None:
        raise RateLimitedError("slow down", retry_after_s=7.0)

    members = {name: Member(name, limited) for name in ("Worker-1", "Worker-2")}
    network = await house.network("http", {"Sub-1": await house.pool("Sub-1", "http", members)})
    error = (await ask(network))["error"]
    assert isinstance(error, RateLimitedError)
    assert 6 < error.retry_after_s <= 7
    assert (await network.health_check(["Sub-1"]))["Sub-1"], "a pause is no outage"


@pytest.fixture
def quick_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "protocol_backend.inproc.comm.HEARTBEAT_S",
        "comm.host.respond.HEARTBEAT_S",
        "protocol_backend.a2a.exchange.LOOK_AFTER_S",
    ):
        monkeypatch.setattr(f"streaming_queue.{name}", 0.05)


@pytest.mark.parametrize("protocol", ["inproc", "http", "a2a"])
async def test_an_answer_that_takes_longer_than_silence_may_last_stays_alive_through_the_levels(
    quick_signs_of_life: None, house: House, protocol: str
) -> None:
    async def slow(context: Any, event_queue: Any) -> None:
        await asyncio.sleep(1.6)
        await event_queue.enqueue_event({"type": MESSAGE, "data": "at last"})

    lower = await house.pool("Lower", protocol, {"Worker-1": Member("Worker-1", slow)})
    upper = await house.pool("Sub-1", protocol, {"Lower": lower})
    network = await house.network(protocol, {"Sub-1": upper})
    for level in (network, upper.network, lower.network):
        level.message_timeout_s = 1.0
    assert (await ask(network)).get("text") == "at last"


@pytest.mark.parametrize("protocol", ["http", "a2a"])
async def test_pools_in_a_circle_end_at_the_hop_limit(house: House, protocol: str) -> None:
    doors = {"Sub-1": Member("Sub-1"), "Sub-2": Member("Sub-2")}
    network = await house.network(protocol, doors)
    for pool_id, member in (("Sub-1", "Sub-2"), ("Sub-2", "Sub-1")):
        sub = await house.pool(pool_id, protocol, {}, [(member, network.get_agents()[member])], slots=9)
        doors[pool_id].behave = sub.execute
    error = (await ask(network))["error"]
    assert type(error) is TopologyError
    assert "forwarded more than 8 times" in str(error)
    assert sum(len(door.asked) for door in doors.values()) == 9
