from __future__ import annotations

import asyncio
from typing import Any

import pytest
from unit.core.virtual_loop import virtually

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import CallContext, calling, heard
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.errors import (
    AgentFailedError,
    CommError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
    SendTimeoutError,
    TopologyError,
    UnknownAgentError,
    UnreachableError,
)
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class Echo:
    async def execute(self, context: Any, event_queue: Any) -> None:
        text = context.get_user_input()
        if text == "fail":
            raise RateLimitedError("slow down", retry_after_s=3.5)
        if text == "hang":
            await asyncio.Event().wait()
        await event_queue.enqueue_event({"type": "agent_text_message", "data": text.upper()})


class Plain(BaseCommBackend):
    """What a stranger's backend may do: no super().__init__(), its own plain dict, any exception."""

    def __init__(self, behave: Any) -> None:
        self.behave = behave
        self.connected: list[tuple[str, str]] = []

    async def connect(self, src_id: str, dst_id: str) -> None:
        self.connected.append((src_id, dst_id))

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        return await self.behave(dst_id, payload)

    async def health_check(self, agent_id: str) -> bool:
        return await self.behave(agent_id, {})


@pytest.fixture
async def network():
    backend = InprocCommBackend()
    network = NetworkBase(comm_backend=backend)
    for agent_id in ("C", "A", "B"):
        handle = await backend.spawn_local_agent(agent_id, "", 0, Echo())
        await network.register_agent(agent_id, handle.base_url)
    network.setup_star_topology("C")
    yield network
    await network.close()


async def plain(behave: Any, **options: Any) -> NetworkBase:
    network = NetworkBase(Plain(behave), **options)
    await network.register_agent("A", "somewhere:1")
    return network


async def test_a_message_goes_along_an_edge_and_back(network: NetworkBase) -> None:
    reply = await network.route_message("C", "A", {"text": "hello"})
    assert reply["text"] == "HELLO"
    assert (await network.route_message("A", "C", {"parts": [{"kind": "text", "text": "x"}]}))["text"] == "X"


async def test_a_callers_mistake_is_raised(network: NetworkBase) -> None:
    with pytest.raises(UnreachableError, match="'A' to 'B'"):
        await network.route_message("A", "B", {"text": "hello"})
    with pytest.raises(UnknownAgentError, match="'X'"):
        await network.route_message("C", "X", {"text": "hello"})
    with pytest.raises(UnknownAgentError, match="'X'"):
        await network.route_message("X", "C", {"text": "hello"})
    with pytest.raises(UnknownAgentError):
        await network.route_message("C", "Runner", {"text": "hello"})


async def test_the_runner_needs_no_edge(network: NetworkBase) -> None:
    assert (await network.route_message("Runner", "C", {"text": "status"}))["text"] == "STATUS"
    with pytest.raises(TopologyError, match="name of the control source"):
        await network.register_agent("Runner", "inproc://Runner")


async def test_a_duplicate_is_refused_and_a_wrong_address_leaves_nothing_behind(network: NetworkBase) -> None:
    with pytest.raises(TopologyError, match="registered already"):
        await network.register_agent("A", "inproc://other")
    assert network.get_agents()["A"] == "inproc://A"
    with pytest.raises(ConfigError, match="inproc://"):
        await network.register_agent("D", "http://127.0.0.1:1")
    assert "D" not in network.get_agents()
    assert "D" not in network.get_topology()


async def test_an_agent_without_an_address_sends_and_is_sent_nothing(network: NetworkBase) -> None:
    await network.register_agent("S")
    network.setup_star_topology("S")
    assert (await network.route_message("S", "A", {"text": "hello"}))["text"] == "HELLO"
    for source in ("A", "Runner"):
        with pytest.raises(UnreachableError, match="'S' has no address"):
            await network.route_message(source, "S", {"text": "hello"})
    assert set(await network.broadcast_message("S", {"text": "x"})) == {"A", "B", "C"}
    assert "S" not in await network.health_check()
    assert network.snapshot_metrics()["agents"] == 4
    with pytest.raises(TopologyError, match="registered already"):
        await network.register_agent("S", "inproc://S")
    await network.unregister_agent("S")
    assert "S" not in network.get_topology()


async def test_health_is_required_of_everybody(network: NetworkBase) -> None:
    await network.require_health()
    await network.kill_agents(["A", "B"])
    with pytest.raises(ConnectError, match=r"2 of 3 agents: it was killed \(A at inproc://A, B at inproc://B\)"):
        await network.require_health()


async def test_a_remote_failure_comes_back_as_an_error_not_as_a_text(network: NetworkBase) -> None:
    reply = await network.route_message("C", "A", {"text": "fail"})
    assert reply["text"] == ""
    assert isinstance(reply["error"], RateLimitedError)
    assert reply["error"].retry_after_s == 3.5


async def test_an_edge_that_is_removed_carries_nothing_any_more(network: NetworkBase) -> None:
    await network.route_message("C", "A", {"text": "warm"})
    await network.disconnect_agents("C", "A")
    with pytest.raises(UnreachableError):
        await network.route_message("C", "A", {"text": "hello"})
    await network.connect_agents("A", "C")
    assert (await network.route_message("C", "A", {"text": "hello"}))["text"] == "HELLO"


async def test_an_agent_that_left_can_come_back(network: NetworkBase) -> None:
    await network.unregister_agent("A")
    assert network.get_topology() == {"C": ["B"], "B": ["C"]}
    with pytest.raises(UnknownAgentError):
        await network.route_message("C", "A", {"text": "hello"})
    await network.register_agent("A", "inproc://A")
    assert network.get_topology()["A"] == []


async def test_a_killed_agent_is_silent_and_unhealthy(network: NetworkBase) -> None:
    assert await network.kill_agents(["A"]) == ["A"]
    assert await network.kill_agents(["A"]) == []
    reply = await network.route_message("C", "A", {"text": "hello"})
    assert isinstance(reply["error"], ConnectError)
    assert await network.health_check() == {"C": True, "A": False, "B": True}
    with pytest.raises(UnknownAgentError):
        await network.kill_agents(["X"])


async def test_a_broadcast_has_a_reply_or_an_error_for_each(network: NetworkBase) -> None:
    await network.kill_agents(["B"])
    replies = await network.broadcast_message("C", {"text": "all"})
    assert replies["A"]["text"] == "ALL"
    assert isinstance(replies["B"]["error"], ConnectError)
    assert set(await network.broadcast_message("Runner", {"text": "all"}, exclude={"C", "B"})) == {"A"}


async def test_connect_is_awaited_once_per_edge_before_its_first_message() -> None:
    async def behave(dst_id: str, payload: dict[str, Any]) -> Any:
        return {"raw": None, "text": "yes"}

    network = await plain(behave)
    await asyncio.gather(*(network.route_message("Runner", "A", {"text": "x"}) for _ in range(20)))
    assert network.comm_backend.connected == [("Runner", "A")]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("unknown dst_id=A"), CommError),
        (ConnectionResetError("gone"), ConnectError),
        (asyncio.IncompleteReadError(b"", 3), ConnectError),
        (TimeoutError("slow"), SendTimeoutError),
        (AgentFailedError("no"), AgentFailedError),
    ],
)
async def test_any_exception_of_a_backend_becomes_a_typed_error(raised: Exception, expected: type) -> None:
    async def behave(dst_id: str, payload: dict[str, Any]) -> Any:
        raise raised

    reply = await (await plain(behave)).route_message("Runner", "A", {"text": "x"})
    assert type(reply["error"]) is expected
    assert reply["text"] == ""


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ({"raw": {"error": "boom"}, "text": "sorry, an error"}, RemoteError),
        ({"raw": {"error": {"code": "rate_limited", "message": "later"}}, "text": ""}, RateLimitedError),
        ({"raw": None, "text": ""}, ProtocolError),
        ({"raw": None, "text": None}, ProtocolError),
        ({"raw": None}, ProtocolError),
        ("just a text", ProtocolError),
        (None, ProtocolError),
    ],
)
async def test_an_empty_answer_or_a_raw_error_is_a_failure(returned: Any, expected: type) -> None:
    async def behave(dst_id: str, payload: dict[str, Any]) -> Any:
        return returned

    reply = await (await plain(behave)).route_message("Runner", "A", {"text": "x"})
    assert type(reply["error"]) is expected
    assert reply["text"] == ""


async def test_silence_ends_a_question_but_never_a_command(network: NetworkBase) -> None:
    network.message_timeout_s = 0.05
    reply = await network.route_message("C", "A", {"text": "hang"})
    assert isinstance(reply["error"], SendTimeoutError)
    assert "message_timeout" in str(reply["error"])
    with calling(CallContext(kind="command")):
        command = asyncio.create_task(network.route_message("C", "A", {"text": "hang"}))
    done, _ = await asyncio.wait({command}, timeout=0.2)
    assert not done
    command.cancel()
    await asyncio.wait({command})


@virtually
async def test_signs_of_life_keep_a_long_answer_alive() -> None:
    async def lasts(agent_id: str, payload: dict[str, Any]) -> Any:
        for _ in range(8):
            await asyncio.sleep(0.05)
            heard()
        return {"raw": None, "text": "at last"}

    network = await plain(lasts, message_timeout_s=0.2)
    assert (await network.route_message("Runner", "A", {"text": "q"}))["text"] == "at last"
    heard()  # nobody listens any more


@virtually
async def test_silence_after_signs_of_life_ends_a_question() -> None:
    async def dies_away(agent_id: str, payload: dict[str, Any]) -> Any:
        await asyncio.sleep(0.05)
        heard()
        await asyncio.Event().wait()

    network = await plain(dies_away, message_timeout_s=0.1)
    reply = await network.route_message("Runner", "A", {"text": "q"})
    assert isinstance(reply["error"], SendTimeoutError)
    assert "no sign of life for 0.1 s" in str(reply["error"])


class Streams:
    async def execute(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event({"type": STATUS, "data": "thinking", "metadata": {"done": 1}})
        await event_queue.enqueue_event({"type": DELTA, "data": "x"})
        if context.get_user_input() == "fail":
            raise RateLimitedError("slow down", retry_after_s=3.5)
        await event_queue.enqueue_event({"type": MESSAGE, "data": "xy"})


async def test_a_streamed_message_ends_with_its_answer_or_its_failure() -> None:
    backend = InprocCommBackend()
    network = NetworkBase(comm_backend=backend)
    handle = await backend.spawn_local_agent("A", "", 0, Streams())
    await network.register_agent("A", handle.base_url)
    answered = [event async for event in network.stream_message("Runner", "A", {"text": "q"})]
    assert [event["type"] for event in answered] == [STATUS, DELTA, MESSAGE]
    assert answered[0]["metadata"] == {"done": 1}
    *_, failed = [event async for event in network.stream_message("Runner", "A", {"text": "fail"})]
    assert isinstance(failed["error"], RateLimitedError)
    assert (failed["type"], failed["code"], failed["retry_after_s"]) == ("agent_error", "rate_limited", 3.5)
    await handle.stop()
    (gone,) = [event async for event in network.stream_message("Runner", "A", {"text": "q"})]
    assert isinstance(gone["error"], ConnectError)
    figures = network.snapshot_metrics()["messages"]["A"]
    assert (figures["messages"], figures["errors"]) == (3, 2)
    with pytest.raises(UnknownAgentError):
        await anext(network.stream_message("Runner", "nobody", {"text": "q"}))
    await network.close()


async def test_a_streamed_question_is_bound_by_silence_too() -> None:
    async def hangs(agent_id: str, payload: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    network = await plain(hangs, message_timeout_s=0.05)
    (end,) = [event async for event in network.stream_message("Runner", "A", {"text": "q"})]
    assert isinstance(end["error"], SendTimeoutError)


async def test_the_calls_context_rides_along_and_a_cycle_ends_at_the_hop_limit() -> None:
    class Forward:
        def __init__(self, to: str) -> None:
            self.to = to
            self.seen: list[Any] = []

        async def execute(self, context: Any, event_queue: Any) -> None:
            self.seen.append(dict(context.metadata))
            reply = await context.call(self.to, {"text": context.get_user_input()})
            if "error" in reply:
                raise reply["error"]
            await event_queue.enqueue_event({"type": "agent_text_message", "data": reply["text"]})

    backend = InprocCommBackend()
    network = NetworkBase(backend)
    forwards = {"A": Forward("B"), "B": Forward("A")}
    for agent_id, executor in forwards.items():
        handle = await backend.spawn_local_agent(agent_id, "", 0, executor)
        await network.register_agent(agent_id, handle.base_url)
    network.setup_mesh_topology()
    with calling(CallContext(run_id="r", question_id="q", attempt=2, kind="question")):
        reply = await network.route_message("Runner", "A", {"text": "x", "metadata": {"mine": 1}})
    assert isinstance(reply["error"], TopologyError)
    assert "hop limit" in str(reply["error"])
    assert forwards["A"].seen[0] == {"run_id": "r", "question_id": "q", "attempt": 2, "kind": "question", "mine": 1}
    assert forwards["B"].seen[0]["hops"] == 1
    assert 4 <= len(forwards["A"].seen) <= 5
    await network.close()


async def test_health_is_checked_all_at_once_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming_queue.core.network_health.HEALTH_BOUND_S", 0.1)

    async def behave(dst_id: str, payload: dict[str, Any]) -> Any:
        if dst_id == "broken":
            raise RuntimeError("probe")
        if dst_id.startswith("hung"):
            await asyncio.Event().wait()
        return True

    network = await plain(behave)
    for agent_id in ("broken", *(f"hung{number}" for number in range(20))):
        await network.register_agent(agent_id, "x")
    async with asyncio.timeout(2):
        health = await network.health_check()
    assert [agent_id for agent_id, healthy in health.items() if healthy] == ["A"]


async def test_metrics_count_messages_errors_and_bytes(network: NetworkBase) -> None:
    await network.route_message("C", "A", {"text": "é"})
    await network.route_message("C", "A", {"text": "fail"})
    snapshot = network.snapshot_metrics()
    assert snapshot["agents"] == 3
    assert snapshot["edges"] == 2
    figures = snapshot["messages"]["A"]
    assert (figures["messages"], figures["errors"]) == (2, 1)
    assert figures["request_bytes"] == 2 + 4
    assert figures["response_bytes"] == 2


async def test_close_ends_services_first_and_twice_is_harmless(network: NetworkBase) -> None:
    closed: list[str] = []

    class Service:
        def figures(self) -> dict[str, Any]:
            return {}

        def drain(self) -> None: ...

        async def close(self) -> None:
            assert await network.comm_backend.health_check("A")
            closed.append("service")

    network.services.append(Service())
    await network.close()
    await network.close()
    assert closed == ["service"]
    assert not await network.comm_backend.health_check("A")
