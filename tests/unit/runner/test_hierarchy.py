from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from streaming_queue.comm import registry
from streaming_queue.config import Config, load_config
from streaming_queue.config.pools import MOST_LEVELS
from streaming_queue.core.executors import WorkerExecutor
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.errors import ConfigError, UnknownProtocolError
from streaming_queue.runner.hierarchy import make_pool
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.telemetry.console import Output
from streaming_queue.telemetry.events import Event, RunStarted

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


class Stage:
    """A run with pools, and what a person and a listener see of it."""

    def __init__(self, directory: Path, pools: dict[str, Any], protocol: str = "inproc", **flags: Any) -> None:
        self.directory = directory / "run"
        given = {
            "protocol": protocol,
            "network.topology": "hierarchical",
            "network.pools": pools,
            "qa.coordinator.limit": 40,
            "mock.latency_ms": 1,
            "output.dir": str(self.directory),
        }
        self.stderr = io.StringIO()
        self.events: list[Event] = []
        output = Output(stdout=io.StringIO(), stderr=self.stderr)
        self.runner = RunnerBase(load_config(flags=given | flags, environ={}), output=output)
        self.runner.listeners.append(self.events.append)

    async def run(self) -> int:
        return await self.runner.execute()

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("protocol", ["a2a", "http", "inproc"])
async def test_pools_answer_for_their_workers_over_whatever_protocol(tmp_path: Path, protocol: str) -> None:
    pools = {"Sub-1": {"count": 2, "protocol": "http"}, "Sub-2": ["Worker-3", "Worker-4"], "Sub-3": {"count": 1}}
    stage = Stage(tmp_path, pools, protocol, **{"qa.worker.concurrency": 2})
    assert await stage.run() == 0, stage.stderr.getvalue()
    assert len(stage.rows) == 40
    assert {row["worker"] for row in stage.rows} == set(pools)
    assert {row["protocol"] for row in stage.rows} == {protocol}
    assert all(row["mock"] and row["llm_ms"] > 0 and row["protocol_ms"] >= 0 for row in stage.rows)
    (started,) = (event for event in stage.events if isinstance(event, RunStarted))
    assert started.workers == ("Sub-1", "Sub-2", "Sub-3")
    assert started.concurrency == 10


async def test_three_levels_in_one_run(tmp_path: Path) -> None:
    pools = {
        "Top": {"workers": ["Left", "Right"], "protocol": "http"},
        "Left": {"count": 2, "protocol": "inproc"},
        "Right": {"count": 2, "protocol": "a2a"},
    }
    stage = Stage(tmp_path, pools, "a2a")
    assert await stage.run() == 0, stage.stderr.getvalue()
    assert {row["worker"] for row in stage.rows} == {"Top"}
    (tree,) = (line for line in stage.stderr.getvalue().splitlines() if "Coordinator-1 http" in line)
    for part in ("(http: Left http", "(inproc: Worker-1 inproc://Worker-1, Worker-2 inproc", "(a2a: Worker-3 http"):
        assert part in tree
    left, right = stage.runner._subs[1:]
    for sub, members in ((left, ("Worker-1", "Worker-2")), (right, ("Worker-3", "Worker-4"))):
        figures = sub.balancer.figures()
        assert figures["slots"] == 16
        assert tuple(figures["members"]) == members
        assert all(member["answered"] > 0 for member in figures["members"].values())


async def test_pools_as_deep_as_they_may_be_are_within_the_hop_limit(tmp_path: Path) -> None:
    pools = {f"S{level}": [f"S{level + 1}"] for level in range(1, MOST_LEVELS)} | {f"S{MOST_LEVELS}": ["Worker-1"]}
    stage = Stage(tmp_path, pools)
    assert await stage.run() == 0, stage.stderr.getvalue()


async def test_workers_that_run_already_are_put_into_their_pools(tmp_path: Path) -> None:
    backend = registry.create("http")
    config = Config.of({"mock": {"latency_ms": 1}})
    hosts = [await backend.spawn_local_agent(f"w{n}", "127.0.0.1", 0, WorkerExecutor(config)) for n in range(3)]
    endpoints = [host.base_url for host in hosts]
    pools = {"Sub-1": {"count": 2, "protocol": "http"}, "Sub-2": {"count": 1, "protocol": "http"}}
    stage = Stage(tmp_path, pools, **{"qa.worker.endpoints": endpoints})
    assert await stage.run() == 0, stage.stderr.getvalue()
    assert all(address in stage.stderr.getvalue() for address in endpoints)
    assert {row["worker"] for row in stage.rows} == set(pools)
    await backend.close()


async def test_a_worker_that_does_not_answer_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    pools = {"Sub-1": {"count": 1, "protocol": "http"}}
    stage = Stage(tmp_path, pools, **{"qa.worker.endpoints": ["http://127.0.0.1:9"]})
    assert await stage.run() == 69
    assert "no healthy agent answers: Worker-1 at http://127.0.0.1:9" in stage.stderr.getvalue()
    assert not stage.directory.exists()


async def test_a_pools_unknown_protocol_is_named_before_anything_starts(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"Sub-1": {"count": 1, "protocol": "htpt"}})
    assert await stage.run() == 2
    assert "network.pools: 'Sub-1': unknown protocol 'htpt': did you mean 'http'?" in stage.stderr.getvalue()
    assert stage.runner._network is None


async def test_what_was_started_ends_where_the_rest_cannot_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        pools = {"Sub-1": {"count": 1, "protocol": "inproc"}, "Sub-2": {"count": 1, "protocol": "http"}}
        stage = Stage(tmp_path, pools, "a2a", **{"qa.worker.start_port": port - 1})
        assert await stage.run() == 69
        assert f"127.0.0.1:{port}" in stage.stderr.getvalue()


async def test_a_pool_by_itself() -> None:
    backend = registry.create("http")
    config = Config.of({"qa": {"worker": {"concurrency": 3}}, "mock": {"latency_ms": 1}})
    hosts = [await backend.spawn_local_agent(f"w{n}", "127.0.0.1", 0, WorkerExecutor(config)) for n in range(2)]
    sub = await make_pool("Sub-1", [host.base_url for host in hosts], "http", config)
    network = NetworkBase(registry.create("a2a"))
    handle = await network.comm_backend.spawn_local_agent("Sub-1", "127.0.0.1", 0, sub)
    await network.register_agent("Sub-1", handle.base_url)
    reply = await network.route_message("Runner", "Sub-1", {"text": "Why?"})
    assert reply["text"].startswith("[mock]")
    assert reply["metadata"]["mock"] is True
    assert sub.balancer.figures()["slots"] == 6
    for closing in (network, sub, sub, backend):
        await closing.close()


@pytest.mark.parametrize(
    ("address", "protocol", "error"), [("nowhere", "http", ConfigError), ("http://x", "htpt", UnknownProtocolError)]
)
async def test_a_pool_that_cannot_be(address: str, protocol: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await make_pool("Sub-1", [address], protocol, Config())
