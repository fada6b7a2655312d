"""`protocol: auto` over real sockets: traffic leaves a protocol that a proxy slows down, and comes back to it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from streaming_queue.config import load_config
from streaming_queue.core.executors import WorkerExecutor
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.runner.backends import create_backend
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.telemetry.console import Output
from streaming_queue.telemetry.events import Event, Sent
from streaming_queue.testing.relay import Relay

PROTOCOLS = ("http", "a2a", "ws")
QUESTIONS, SLOWED_AT, RESTORED_AT, WITHIN = 600, 120, 320, 50
DELAY_S = 0.12


class Slowing:
    """Hears of each question that is sent, and slows the relay down from one on, until another."""

    def __init__(self, relay: Relay) -> None:
        self.sent: list[str] = []
        self._relay = relay

    def __call__(self, event: Event) -> None:
        if isinstance(event, Sent):
            self.sent.append(event.worker)
            if len(self.sent) == SLOWED_AT:
                self._relay.delay(DELAY_S)
            elif len(self.sent) == RESTORED_AT:
                self._relay.delay(0.0)

    def share(self, worker: str, begin: int, end: int) -> float:
        return self.sent[begin:end].count(worker) / (end - begin)


async def test_traffic_leaves_a_protocol_that_becomes_slow_and_comes_back(stq, tmp_path: Path) -> None:
    questions, output = await asyncio.to_thread(stq.questions, QUESTIONS), tmp_path / "run"
    async with AsyncExitStack() as stack:
        addresses = {}
        for protocol in PROTOCOLS:
            network = NetworkBase(create_backend(load_config(flags={"protocol": protocol}, environ={})))
            stack.push_async_callback(network.close)
            executor = WorkerExecutor({"mock": {"latency_ms": 50}})
            handle = await network.comm_backend.spawn_local_agent("Worker", "127.0.0.1", 0, executor)
            addresses[protocol] = handle.base_url
        relay = Relay.to(addresses["ws"])
        assert relay
        await stack.enter_async_context(relay)
        addresses["ws"] = relay.address(addresses["ws"])
        flags: dict[str, Any] = {
            "protocol": "auto",
            "workers": [{"protocol": protocol, "endpoints": [address]} for protocol, address in addresses.items()],
            "qa.worker.concurrency": 4,
            "auto.exploration": 0.03,
            "qa.coordinator.data_file": str(questions),
            "output.dir": str(output),
        }
        runner = RunnerBase(load_config(flags=flags, environ={}), output=Output(quiet=True))
        slowing = Slowing(relay)
        runner.listeners.append(slowing)
        assert await runner.execute() == 0

    slowed = "Worker-3"
    # Equals share by what each costs at this moment, and a busy machine makes a difference there; a quarter each is usual.
    assert slowing.share(slowed, 20, SLOWED_AT) > 0.08
    assert slowing.share(slowed, SLOWED_AT + WITHIN, RESTORED_AT) < 0.09  # pull alone leaves it about twice as much
    assert slowing.share(slowed, QUESTIONS - 150, QUESTIONS) > 0.08
    manifest = json.loads(await asyncio.to_thread((output / "run.json").read_text))
    auto = manifest["summary"]["auto"]
    moved = [(shift["question"], shift["now"]) for shift in auto["shifts"] if shift["protocol"] == "ws"]
    assert any(SLOWED_AT < question <= SLOWED_AT + WITHIN for question, now in moved if now == "slow"), moved
    assert any(RESTORED_AT < question < QUESTIONS - 150 for question, now in moved if now == "free"), moved
    taken = {protocol: sum(figures["taken"].values()) for protocol, figures in auto["protocols"].items()}
    assert taken == {protocol: slowing.sent.count(f"Worker-{number}") for number, protocol in enumerate(PROTOCOLS, 1)}
    assert auto["protocols"]["ws"]["taken"]["explored"] >= 2
    assert auto["protocols"]["ws"]["held_back"]["slow"] > 100
    assert manifest["protocol"] == "auto"
    assert manifest["summary"]["answered"] == QUESTIONS
