from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streaming_queue.comm import registry
from streaming_queue.comm.composite import CompositeBackend
from streaming_queue.core.membership import Membership
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.errors import ConfigError, ConnectError, UnknownAgentError
from streaming_queue.testing.executors import Echo

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


class Scheduler:
    def __init__(self) -> None:
        self.told: list[Any] = []
        self.pool = self

    def add_worker(self, worker_id: str) -> None:
        self.told.append(("add", worker_id))

    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> None:
        self.told.append(("remove", worker_id, at_once))

    def states(self) -> dict[str, dict[str, Any]]:
        return {"Worker-1": {"state": "up", "busy": 1, "limit": 8, "answered": 3, "failed": 0}}


class Place:
    """A network with a coordinator and one worker, and further agents that nobody knows yet."""

    def __init__(self, network: NetworkBase, membership: Membership, addresses: list[str]) -> None:
        self.network, self.membership, self.addresses = network, membership, addresses


@pytest.fixture
async def place():
    backend = registry.create("http")
    network = NetworkBase(backend)
    await network.register_agent("Coordinator-1")
    handles = [await backend.spawn_local_agent(f"agent-{number}", "127.0.0.1", 0, Echo()) for number in range(3)]
    await network.register_agent("Worker-1", handles[0].base_url)
    yield Place(network, Membership(network, "Coordinator-1", ["Worker-1"]), [handle.base_url for handle in handles])
    await network.close()


async def test_a_worker_joins_as_the_next_and_is_reached(place: Place) -> None:
    place.membership.scheduler = scheduler = Scheduler()
    assert await place.membership.add(place.addresses[1]) == "Worker-2"
    assert await place.membership.add(place.addresses[1]) == "Worker-2"
    assert await place.membership.add(place.addresses[2], worker_id="Helper") == "Helper"
    assert scheduler.told == [("add", "Worker-2"), ("add", "Helper")]
    reply = await place.network.route_message("Coordinator-1", "Worker-2", {"text": "hello"})
    assert reply["text"] == "hello"
    assert [each["id"] for each in place.membership.workers()] == ["Worker-1", "Worker-2", "Helper"]


async def test_each_is_shown_with_what_the_round_knows_of_it(place: Place) -> None:
    place.membership.scheduler = Scheduler()
    await place.membership.add(place.addresses[1])
    first, second = place.membership.workers()
    assert first == {
        "id": "Worker-1", "address": place.addresses[0], "protocol": "http", "state": "up", "busy": 1, "limit": 8,
        "answered": 3, "failed": 0,
    }  # fmt: skip
    assert second["state"] == "idle"


async def test_a_credential_in_an_address_is_not_shown() -> None:
    network = NetworkBase(registry.create("mcp"))
    await network.register_agent("Worker-1", "stdio:server --token s3cret")
    (shown,) = Membership(network, "Coordinator-1", ["Worker-1"]).workers()
    assert shown["address"] == "stdio:server --token ***"
    await network.close()


async def test_who_does_not_answer_is_nobody(place: Place) -> None:
    with pytest.raises(ConnectError, match=r"Worker-2 at http://127\.0\.0\.1:9"):
        await place.membership.add("http://127.0.0.1:9")
    assert list(place.network.get_agents()) == ["Worker-1"]
    assert await place.membership.add(place.addresses[1]) == "Worker-2"


async def test_a_lost_worker_is_shown_with_what_its_last_probe_told(place: Place) -> None:
    class Lost(Scheduler):
        def states(self) -> dict[str, dict[str, Any]]:
            return {"Worker-1": {"state": "down", "reason": "reset", "since": "2026-12-01T00:00:00.000+00:00"}}

    place.membership.scheduler = Lost()
    assert place.membership.workers()[0]["reason"] == "reset"
    await place.network.comm_backend.register_endpoint("Worker-1", "http://127.0.0.1:9")
    await place.network.probe(["Worker-1"])
    (worker,) = place.membership.workers()
    assert worker["reason"] == "http://127.0.0.1:9: cannot connect: connection refused"
    assert worker["since"] == "2026-12-01T00:00:00.000+00:00"


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_worker_leaves(place: Place, at_once: bool) -> None:
    place.membership.scheduler = scheduler = Scheduler()
    await place.membership.remove("Worker-1", at_once=at_once)
    with pytest.raises(UnknownAgentError, match="Worker-9"):
        await place.membership.remove("Worker-9")
    assert scheduler.told == [("remove", "Worker-1", at_once)]
    assert place.membership.workers() == []
    assert place.network.get_agents() == {}


async def test_by_its_address_too(place: Place) -> None:
    assert await place.membership.leave(place.addresses[2]) is None
    assert await place.membership.leave(place.addresses[0]) == "Worker-1"
    assert place.membership.workers() == []


@pytest.mark.parametrize("form", ["stdio:touch {}", "stdio://bin/touch {}", "STDIO:touch {}", "file://{}"])
@pytest.mark.parametrize("protocol", [None, "mcp"])
async def test_an_address_from_a_wire_starts_no_program(tmp_path: Path, form: str, protocol: str | None) -> None:
    network, file = NetworkBase(registry.create("mcp")), tmp_path / "started"
    await network.register_agent("Coordinator-1")
    await network.register_agent("Worker-1", "stdio:true")
    with pytest.raises(ConfigError, match=r"qa\.worker\.endpoints"):
        await Membership(network, "Coordinator-1", ["Worker-1"]).add(form.format(file), protocol=protocol)
    assert list(network.get_agents()) == ["Worker-1"]
    await network.close()
    assert not file.exists()


@pytest.mark.parametrize("protocol", ["os:system", "streaming_queue.protocol_backend.mcp.comm:McpCommBackend", ""])
async def test_nor_does_a_protocol_from_a_wire_import_anything(place: Place, protocol: str) -> None:
    with pytest.raises(ConfigError, match="no worker of this run speaks"):
        await place.membership.add(place.addresses[1], protocol=protocol)


async def test_a_protocol_of_others_declares_its_sockets(place: Place) -> None:
    backend = place.network.comm_backend
    backend.socket_schemes = ("own",)
    with pytest.raises(ConfigError, match="must be http"):  # which the backend itself says
        await place.membership.add("own://127.0.0.1:9")


async def test_in_a_mixed_network_a_worker_says_what_it_speaks() -> None:
    default, other = registry.create("inproc"), registry.create("http")
    composite = CompositeBackend(default)
    composite.assign("Worker-2", other)
    network = NetworkBase(composite)
    await network.register_agent("Coordinator-1")
    one = await default.spawn_local_agent("Worker-1", "127.0.0.1", 0, Echo())
    two = await other.spawn_local_agent("Worker-2", "127.0.0.1", 0, Echo())
    three = await other.spawn_local_agent("three", "127.0.0.1", 0, Echo())
    for worker_id, handle in (("Worker-1", one), ("Worker-2", two)):
        await network.register_agent(worker_id, handle.base_url)
    membership = Membership(network, "Coordinator-1", ["Worker-1", "Worker-2"])
    with pytest.raises(ConfigError, match="http, inproc: name the protocol"):
        await membership.add(three.base_url)
    with pytest.raises(ConfigError, match="speaks ws; their protocols: http, inproc"):
        await membership.add(three.base_url, protocol="ws")
    assert await membership.add(three.base_url, protocol="http") == "Worker-3"
    assert [each["protocol"] for each in membership.workers()] == ["inproc", "http", "http"]
    await network.close()
