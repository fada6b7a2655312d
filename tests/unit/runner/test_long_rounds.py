"""Answers and rounds that outlast every timeout, over a network that keeps breaking: nothing is asked twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import soon
from unit.runner.test_runner_base import Talk

from streaming_queue.comm import registry
from streaming_queue.comm.client import exchange as client_exchange
from streaming_queue.comm.host import execution, respond
from streaming_queue.config import load_config
from streaming_queue.core import executors
from streaming_queue.protocol_backend.a2a import event_stream, exchange
from streaming_queue.runner import following, remote
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.testing.relay import Relay

PROTOCOLS = ("a2a", "http")
QUESTIONS = 4
ANSWER_S = 3.0
SILENCE_S = 1.0


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer takes three times the silence that is allowed, and ten times a heartbeat."""
    for module, name, seconds in (
        (execution, "HEARTBEAT_S", 0.3),
        (respond, "HEARTBEAT_S", 0.3),
        (event_stream, "HEARTBEAT_S", 0.3),
        (exchange, "LOOK_AFTER_S", 0.3),
        (exchange, "SILENT_STREAM_S", 0.6),
        (client_exchange, "HELD_S", 0.2),
        (following, "POLL_S", 0.1),
        (following, "SHOW_S", 0.1),
        (executors, "PROGRESS_S", 0.1),
    ):
        monkeypatch.setattr(module, name, seconds)


class Slow:
    """Takes its time, and keeps count of what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def execute(self, context: Any, event_queue: Any) -> None:
        text = context.get_user_input()
        self.asked[text] += 1
        await asyncio.sleep(ANSWER_S)
        await event_queue.enqueue_event({"type": "agent_text_message", "data": f"answer to {text}"})


def config(tmp_path: Path, protocol: str, address: str) -> Any:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(
        "".join(json.dumps({"id": f"q{n}", "question": f"question {n}"}) + "\n" for n in range(QUESTIONS))
    )
    flags = {
        "protocol": protocol,
        "qa.coordinator.data_file": str(questions),
        "qa.worker.endpoints": [address],
        "network.message_timeout": SILENCE_S,
        "output.dir": str(tmp_path / "run"),
    }
    return load_config(flags=flags, environ={})


async def break_now_and_then(relay: Relay) -> None:
    """Reset every connection again and again, with time between to get at work."""
    while True:
        await asyncio.sleep(0.5)
        relay.reset()
        await relay.restore()


def rows_of(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_long_answers_over_a_network_that_keeps_breaking_are_worked_out_once(
    tmp_path: Path, protocol: str
) -> None:
    worker, host = Slow(), registry.create(protocol)
    handle = await host.spawn_local_agent("Worker-1", "127.0.0.1", 0, worker)
    async with Relay.to(handle.base_url) as relay:
        output = Talk()
        breaking = asyncio.create_task(break_now_and_then(relay))
        code = await RunnerBase(config(tmp_path, protocol, relay.address(handle.base_url)), output=output).execute()
        breaking.cancel()
    await host.close()
    assert code == 0, output.text
    rows = await asyncio.to_thread(rows_of, tmp_path)
    assert {row["answer"] for row in rows} == {f"answer to question {number}" for number in range(QUESTIONS)}
    assert worker.asked == {f"question {number}": 1 for number in range(QUESTIONS)}
    assert {row["attempts"] for row in rows} == {1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_worker_that_really_falls_silent_is_found_out(tmp_path: Path, protocol: str) -> None:
    worker, host = Slow(), registry.create(protocol)
    handle = await host.spawn_local_agent("Worker-1", "127.0.0.1", 0, worker)
    async with Relay.to(handle.base_url) as relay:
        settings = config(tmp_path, protocol, relay.address(handle.base_url))
        running = asyncio.create_task(RunnerBase(settings, output=Talk()).execute())
        await soon(lambda: bool(worker.asked))
        relay.black_hole()
        await asyncio.sleep(2 * SILENCE_S)
        await relay.restore()
        code = await running
    await host.close()
    assert code == 0
    rows = await asyncio.to_thread(rows_of, tmp_path)
    assert len(rows) == QUESTIONS
    assert max(worker.asked.values()) <= 2  # a cancel that arrives as the network is back ends the work


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_run_and_its_follower_agree_on_the_end_after_any_break(tmp_path: Path, protocol: str) -> None:
    worker, host = Slow(), registry.create(protocol)
    handle = await host.spawn_local_agent("Worker-1", "127.0.0.1", 0, worker)
    settings = config(tmp_path, protocol, handle.base_url)
    begun = asyncio.get_running_loop().create_future()

    class Served(RunnerBase):
        async def _flow(self, worker_ids: list[str]) -> int:
            begun.set_result(self.network.get_agents()["Coordinator-1"])
            await self._stopping.wait()
            return 0

    service = Served(settings, output=Talk())
    serving = asyncio.create_task(service.execute())
    address = await begun
    async with Relay.to(address) as relay:
        output, summaries = Talk(), []
        breaking = asyncio.create_task(break_now_and_then(relay))
        code = await remote.dispatch(settings, relay.address(address), output, follow=True, ended=summaries.append)
        breaking.cancel()
    assert code == 0, output.text
    assert f"{QUESTIONS} of {QUESTIONS} questions answered, 0 failed" in output.text
    service._stopping.set()
    assert await serving == 0
    await host.close()
    with suppress(IndexError):
        assert summaries[0]["answered"] == QUESTIONS
    assert worker.asked == {f"question {number}": 1 for number in range(QUESTIONS)}
