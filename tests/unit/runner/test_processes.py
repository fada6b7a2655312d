from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import soon, until
from unit.runner.test_runner_base import Talk

from streaming_queue.comm import registry
from streaming_queue.config import Config
from streaming_queue.errors import ConfigError, ConnectError
from streaming_queue.runner import processes
from streaming_queue.runner.processes import WorkerProcess


@pytest.fixture
async def start():
    started: list[WorkerProcess] = []

    def make(**settings: Any) -> WorkerProcess:
        config = Config.of({"protocol": "http", "mock": {"latency_ms": 1}, **settings})
        moves: list[str] = []

        async def moved(agent_id: str, address: str) -> None:
            moves.append(address)

        process = WorkerProcess(config, "Worker-1", host="127.0.0.1", port=0, output=Talk(), moved=moved)
        started.append(process)
        return process

    yield make
    for process in started:
        await process.close()


async def test_a_worker_is_started_again_where_it_was(start: Any) -> None:
    process = start()
    address = await process.start()
    backend = registry.create("http")
    await backend.register_endpoint("w", address)
    assert await backend.health_check("w")
    first = process.pid
    os.kill(first, signal.SIGKILL)
    await soon(lambda: process.pid != first, 60)
    await until(partial(backend.health_check, "w"), 60)
    assert (await backend.send("c", "w", {"text": "q"}))["text"].startswith("[mock]")
    await backend.close()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="shows no process its environment")
async def test_a_worker_inherits_no_operators_token(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STQ_NETWORK__OPERATOR_TOKEN", "commands")
    monkeypatch.setenv("STQ_NETWORK__TOKEN", "asks")
    process = start()
    await process.start()
    inherited = await asyncio.to_thread(Path(f"/proc/{process.pid}/environ").read_bytes)
    assert b"STQ_NETWORK__TOKEN=asks\0" in inherited
    assert b"commands" not in inherited


async def test_closing_ends_the_process(start: Any) -> None:
    process = start()
    await process.start()
    pid = process.pid
    await process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await process.close()


async def test_a_worker_that_cannot_work_says_so_itself(start: Any) -> None:
    with pytest.raises(ConfigError, match=r"Worker-1.*only its own process"):
        await start(protocol="inproc").start()


async def test_a_process_that_never_gets_ready_is_given_up(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MODULE", "timeit")
    with pytest.raises(ConnectError, match="was not ready"):
        await start().start()


async def test_secrets_reach_the_process_and_no_command_line(start: Any) -> None:
    process = start(network={"token": "s3cret"})
    address = await process.start()
    backend = registry.create("http")
    await backend.register_endpoint("w", address)
    assert await backend.health_check("w")
    with pytest.raises(Exception, match="credential"):
        await backend.send("c", "w", {"text": "q"})
    command = await asyncio.to_thread(Path(f"/proc/{process.pid}/cmdline").read_text)
    assert "s3cret" not in command
    await backend.close()
