"""Two processes behind one subject, and one of them killed: nothing that was asked is lost."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from unit.protocol_backend.nats.servers import NatsServer

from streaming_queue.errors import ConnectError
from streaming_queue.protocol_backend.nats import host, request
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

Start = Callable[[str], Awaitable[Process]]


@pytest.fixture
async def instance(shared_server: NatsServer) -> AsyncIterator[Start]:
    """`await instance(name)`: a process, ready."""
    started: list[Process] = []

    async def start(name: str) -> Process:
        script = str(Path(__file__).parent / "instance_process.py")
        started.append(
            await asyncio.create_subprocess_exec(sys.executable, script, shared_server.url, name, stdout=PIPE)
        )
        assert await said(started[-1]) == "ready"
        return started[-1]

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


@pytest.fixture
async def backend(shared_server: NatsServer, make: Any) -> NatsCommBackend:
    backend = make()
    await backend.register_endpoint("w", f"{shared_server.url}/t.w")
    return backend


async def ask(backend: NatsCommBackend, text: str, key: str | None = None) -> str:
    metadata = {"idempotency_key": key} if key else {}
    return (await backend.send("c", "w", {"text": text, "metadata": metadata}))["text"]


async def both_known(backend: NatsCommBackend) -> None:
    assert {await ask(backend, "quick") for _ in range(50)} == {"a", "b"}


async def test_they_share_the_load(backend: NatsCommBackend, instance: Start):
    await instance("a")
    await instance("b")
    answers = await asyncio.gather(*(ask(backend, "quick") for _ in range(100)))
    assert min(answers.count("a"), answers.count("b")) > 10


@pytest.mark.parametrize("shown", [True, False], ids=["known to have it", "not yet known to have it"])
async def test_what_a_killed_one_was_at_is_answered_by_the_other(
    backend: NatsCommBackend, instance: Start, shown: bool
):
    a, _ = await instance("a"), await instance("b")
    await both_known(backend)
    asking = [asyncio.create_task(ask(backend, f"{n} not b", f"key {n}")) for n in range(20)]
    while (await said(a)) == "quick":
        pass
    await asyncio.sleep(2 * host.FIRST_SIGN_S if shown else 0.05)
    started = time.monotonic()
    a.kill()
    assert await asyncio.gather(*asking) == ["b"] * 20
    assert time.monotonic() - started < (1.5 if shown else 1.5 + request.SIGN_S)


async def test_without_a_key_it_is_lost_and_that_is_said_soon(backend: NatsCommBackend, instance: Start):
    a = await instance("a")
    asking = [asyncio.create_task(ask(backend, "never")) for _ in range(3)]
    assert await said(a) == "never"
    await asyncio.sleep(2 * host.FIRST_SIGN_S)
    started = time.monotonic()
    a.kill()
    for task in asking:
        with pytest.raises(ConnectError, match="the process with the message has ended"):
            await task
    assert time.monotonic() - started < 1.5


async def test_what_another_process_is_at_goes_on(backend: NatsCommBackend, instance: Start):
    a, b = await instance("a"), await instance("b")
    await both_known(backend)
    asking = [asyncio.create_task(ask(backend, "never")) for _ in range(20)]
    await asyncio.sleep(0.05)
    a.kill()
    await asyncio.sleep(2 * request.SIGN_S + 0.5)
    going_on = [task for task in asking if not task.done()]
    assert 0 < len(going_on) < 20
    b.kill()
    for task in asking:
        with pytest.raises(ConnectError):
            await task


async def test_one_that_comes_later_is_asked_too(backend: NatsCommBackend, instance: Start):
    a = await instance("a")
    assert await ask(backend, "quick") == "a"
    await instance("b")
    a.kill()
    await a.wait()
    assert await ask(backend, "quick", "k") == "b"
