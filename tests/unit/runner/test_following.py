"""A run at a coordinator in another process: connections may break, only its figures decide."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest
from unit.comm.agents import soon
from unit.runner.test_runner_base import Talk

from streaming_queue.comm import registry
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.errors import AuthError, ConnectError, ProtocolError
from streaming_queue.messages import MESSAGE, STATUS
from streaming_queue.runner import following
from streaming_queue.runner.following import RemoteCoordinator

PROTOCOLS = ("http", "a2a", "acp", "grpc", "ws", "nats", "mcp", "anp")


class Scripted:
    """A coordinator with a run that a test controls."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {"state": "idle", "done": 0, "failed": 0, "total": 9, "round_id": None}
        self.commands: list[str] = []
        self.knows_attach = True
        self.ended = asyncio.Event()

    def begin(self) -> None:
        self.figures |= {"state": "running", "round_id": "r1"}

    def end(self, **figures: Any) -> None:
        self.figures |= {"state": "done", "done": 9} | figures
        self.ended.set()

    async def execute(self, context: Any, event_queue: Any) -> None:
        command = context.get_user_input()
        self.commands.append(command)
        answer: dict[str, Any] = {"type": MESSAGE, "data": command, "metadata": self.figures}
        if command == "attach" and self.knows_attach:
            for number in range(3):
                await event_queue.enqueue_event(
                    {"type": STATUS, "data": f"{number} answered", "metadata": self.figures | {"done": number}}
                )
            await self.ended.wait()
            answer["metadata"] = self.figures | {"summary": {"answered": 9}}
        await event_queue.enqueue_event(answer)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.05)
    monkeypatch.setattr(following, "SHOW_S", 0.0)
    monkeypatch.setattr(following, "PATIENCE_S", 1.0)


class Elsewhere:
    """A scripted coordinator behind a real server, and somebody who speaks to it."""

    def __init__(self, protocol: str) -> None:
        self.script = Scripted()
        self.output = Talk()
        self.protocol = protocol
        self.network = NetworkBase(registry.create(protocol))
        self.host = registry.create(protocol)
        self.port = 0

    async def serve(self) -> None:
        handle = await self.host.spawn_local_agent("C", "127.0.0.1", self.port, self.script)
        if not self.port:
            await self.network.register_agent("C", handle.base_url)
            self.port = urlsplit(handle.base_url).port or 0

    async def die(self) -> None:
        await self.host.close()
        self.host = registry.create(self.protocol)

    @property
    def remote(self) -> RemoteCoordinator:
        return RemoteCoordinator(self.network, "C", self.output)


@pytest.fixture
async def elsewhere():
    made: list[Elsewhere] = []

    async def make(protocol: str) -> Elsewhere:
        coordinator = Elsewhere(protocol)
        made.append(coordinator)
        await coordinator.serve()
        return coordinator

    yield make
    for coordinator in made:
        await coordinator.network.close()
        await coordinator.host.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_progress_streams_back_and_the_outcome_with_its_summary(elsewhere: Any, protocol: str) -> None:
    there = await elsewhere(protocol)
    there.script.begin()
    remote = there.remote
    follow = asyncio.create_task(remote.follow())
    await soon(lambda: "2 answered, 0 failed of 9" in there.output.text)
    assert not follow.done()
    there.script.end()
    figures = await follow
    assert (figures["state"], figures["done"]) == ("done", 9)
    assert remote.summary == {"answered": 9}


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_restarted_coordinator_has_time_to_go_on_with_its_run(elsewhere: Any, comes_back: bool) -> None:
    there = await elsewhere("http")
    there.script.begin()
    follow = asyncio.create_task(there.remote.follow())
    await soon(lambda: "attach" in there.script.commands)
    await there.die()
    there.script = Scripted()
    await there.serve()
    await soon(lambda: "status" in there.script.commands)
    if comes_back:
        there.script.begin()
        there.script.end()
        assert (await follow)["done"] == 9
    else:
        with pytest.raises(ProtocolError):
            await asyncio.wait_for(follow, 30)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_lost_connection_is_no_outcome(elsewhere: Any, protocol: str) -> None:
    there = await elsewhere(protocol)
    there.script.begin()
    follow = asyncio.create_task(there.remote.follow())
    await soon(lambda: "attach" in there.script.commands)
    await there.die()
    await soon(lambda: "asking again" in there.output.text)
    assert not follow.done()
    await there.serve()
    there.script.end(failed=2, done=7)
    figures = await follow
    assert (figures["state"], figures["failed"]) == ("done", 2)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_coordinator_that_stays_away_is_given_up_after_a_while(elsewhere: Any, protocol: str) -> None:
    there = await elsewhere(protocol)
    there.script.begin()
    await there.die()
    with pytest.raises(ConnectError):
        await there.remote.follow()


async def test_a_coordinator_that_does_not_know_attach_is_asked_again_and_again(elsewhere: Any) -> None:
    there = await elsewhere("http")
    there.script.knows_attach = False
    there.script.begin()
    follow = asyncio.create_task(there.remote.follow())
    await soon(lambda: there.script.commands.count("status") > 3)
    there.script.end()
    assert (await follow)["state"] == "done"


async def test_where_nothing_streams_the_figures_are_asked_for(elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = await elsewhere("http")
    monkeypatch.setattr(
        type(there.network.comm_backend), "capabilities", registry.load("http").capabilities.__class__()
    )
    there.script.begin()
    follow = asyncio.create_task(there.remote.follow())
    await soon(lambda: there.script.commands.count("status") > 3)
    there.script.end()
    assert (await follow)["state"] == "done"
    assert there.script.commands.count("attach") == 1  # for the summary


async def test_the_end_of_an_earlier_run_does_not_count_for_this_run(elsewhere: Any) -> None:
    there = await elsewhere("http")
    there.script.begin()
    there.script.end()
    assert await there.remote.round_id() == "r1"
    with pytest.raises(AuthError, match="no entry"):
        await there.remote.follow(before="r1", error=AuthError("no entry"))
    assert (await there.remote.follow(before="r0", error=AuthError("no entry")))["state"] == "done"


async def test_a_coordinator_without_a_run_or_without_figures_raises_protocol_error(elsewhere: Any) -> None:
    there = await elsewhere("http")
    with pytest.raises(ProtocolError, match="has no run"):
        await there.remote.follow()
    there.script.figures = {}
    assert await there.remote.round_id() is None
    with pytest.raises(ProtocolError, match="unknown here"):
        await there.remote.follow()
