from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from streaming_queue.comm.probing import ProbingBackend, StartingError
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.network_health import LONGEST, unhealthy
from streaming_queue.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    SendTimeoutError,
    StreamingQueueError,
    UnknownAgentError,
)


class Scripted(ProbingBackend):
    """What each agent's probe meets, and whom a description refuses."""

    def __init__(self, outcomes: dict[str, Any]) -> None:
        self.outcomes = outcomes
        self.refuses: set[str] = set()

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any: ...

    async def _check(self, agent_id: str) -> bool:
        outcome = self.outcomes[agent_id]
        if isinstance(outcome, list):
            outcome = outcome.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome is not None

    async def describe(self, agent_id: str) -> dict[str, Any]:
        if agent_id in self.refuses:
            raise AuthError("401")
        raise ConnectError("it has no words for itself")


Place = Callable[..., Any]


@pytest.fixture
async def place():
    networks: list[NetworkBase] = []

    async def make(**outcomes: Any) -> NetworkBase:
        network = NetworkBase(Scripted(outcomes))
        networks.append(network)
        for agent_id in outcomes:
            await network.register_agent(agent_id, f"http://{agent_id}")
        return network

    yield make
    for network in networks:
        await network.close()


async def test_the_last_reason_of_each_is_kept_until_it_answers(place: Place) -> None:
    network = await place(a=[ConnectError("x"), True], b=True)
    assert [type(reason) for reason in (await network.probe()).values()] == [ConnectError, type(None)]
    assert str(network.health.last_reason("a")) == "x"
    assert await network.health_check() == {"a": True, "b": True}
    assert network.health.last_reason("a") is None
    await network.kill_agents(["a"])
    assert not await network.health.answers("a")
    await network.unregister_agent("a")
    assert network.health.last_reason("a") is None
    assert isinstance((await network.probe(["a"]))["a"], UnknownAgentError)


async def test_a_probe_that_is_given_up_leaves_a_reason(place: Place) -> None:
    network = await place(a=True)
    silent = asyncio.Event()
    network.comm_backend._check = lambda agent_id: silent.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await network.probe(["a"])
    assert isinstance(network.health.last_reason("a"), SendTimeoutError)


async def test_who_refuses_us_is_there(place: Place) -> None:
    network = await place(a=AuthError("401"))
    await network.require_health()
    assert await network.health.answers("a")
    with pytest.raises(AuthError):
        await network.health.require_credential("a")


async def test_who_refuses_us_only_when_asked_is_found_by_its_description(place: Place) -> None:
    network = await place(a=True, b=True)
    network.comm_backend.refuses = {"a"}
    await network.require_health()
    with pytest.raises(AuthError):
        await network.health.require_credential("a")
    await network.health.require_credential("b")


async def test_what_starts_is_waited_for_and_what_fails_meanwhile_is_not(place: Place) -> None:
    notices: list[Any] = []
    network = await place(a=[*[StartingError("waiting for `a`")] * 3, True], b=True)
    async with asyncio.timeout(10):
        await network.require_health(emit=notices.append)
    assert [notice.text for notice in notices] == ["a: waiting for `a`"]
    network = await place(a=StartingError("waiting"), b=[StartingError("waiting"), ConnectError("it ended")])
    with pytest.raises(ConnectError, match="b at http://b: it ended"):
        await network.require_health()
    with pytest.raises(StartingError):
        await network.health.answers("a")


def refused(address: str) -> ConnectError:
    return ConnectError(f"{address}: cannot connect: connection refused")


def test_equal_reasons_are_told_once_with_a_few_addresses() -> None:
    addresses = {f"W{number}": f"http://127.0.0.1:{number}" for number in range(1, 101)}
    reasons: dict[str, StreamingQueueError] = {agent: refused(address) for agent, address in addresses.items()}
    reasons["W7"] = ConnectError(f"{addresses['W7']}: no connection within 5 s")
    error = unhealthy(reasons, addresses)
    text = str(error)
    assert type(error) is ConnectError
    assert "99 of 100 agents: cannot connect: connection refused (W1 at http://127.0.0.1:1, " in text
    assert " and 96 more)" in text
    assert "W7 at http://127.0.0.1:7: no connection within 5 s" in text
    assert len(text) < 500


def test_reasons_that_all_differ_are_bounded_too() -> None:
    addresses = {f"W{number}": f"http://h:{number}" for number in range(50)}
    text = str(unhealthy({agent: ConnectError(f"{agent} " + "x" * 5000) for agent in addresses}, addresses))
    assert len(text) < 6 * LONGEST
    assert "and 45 more reasons" in text


def test_settings_at_fault_are_a_matter_of_settings() -> None:
    addresses = {"A": "stdio:x", "B": "stdio:y"}
    one, other = ConfigError("stdio:x: it has no tool 'a'"), AuthError("401")
    assert type(unhealthy({"A": one}, addresses)) is ConfigError
    assert type(unhealthy({"A": one, "B": other}, addresses)) is ConnectError
