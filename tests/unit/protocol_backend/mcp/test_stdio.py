"""Servers that are processes of ours: begun, spoken to, ended."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import soon, until

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES
from streaming_queue.errors import BackendClosedError, CommError, ConfigError, ConnectError, ProtocolError
from streaming_queue.messages import MESSAGE
from streaming_queue.protocol_backend.mcp.comm import McpCommBackend
from streaming_queue.runner.runner_base import run_fast

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

CLERK = f"stdio:{shlex.quote(sys.executable)} -S {shlex.quote(str(Path(__file__).with_name('clerk.py')))}"
TEXT = '"quotes" \\back\\ \t\r\n 字 🦜 \x00 \x1b[31m \u2028'


@pytest.fixture
async def backend():
    backend = McpCommBackend(environment=("CLERKS_KEY",))
    yield backend
    await backend.close()


def peer_of(backend: McpCommBackend) -> Any:
    return backend._peers["w"]


def pid_of(backend: McpCommBackend) -> int:
    pid = peer_of(backend).link.pid
    assert pid is not None
    return pid


def group_is_gone(pid: int) -> bool:
    """Whether no process of the group runs; one that nobody has buried yet does not."""
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return not any(int(group) == pid and stat[0] != "Z" for group, stat in map(str.split, listed.splitlines()))


async def ask(backend: McpCommBackend, text: str) -> Any:
    async with asyncio.timeout(10):
        return await backend.send("c", "w", {"text": text})


async def test_a_server_is_begun_once_and_ended(backend: McpCommBackend):
    await backend.register_endpoint("w", CLERK)
    assert peer_of(backend).link.pid is None
    assert await backend.health_check("w")
    replies = await asyncio.gather(*(ask(backend, f"{TEXT} {number}") for number in range(50)))
    assert [reply["text"] for reply in replies] == [f"{TEXT} {number}" for number in range(50)]
    assert [event async for event in backend.stream("c", "w", {"text": "x"})] == [{"type": MESSAGE, "data": "x"}]
    pong = json.loads((await ask(backend, "ping"))["text"])
    assert pong == {"jsonrpc": "2.0", "id": "p", "result": {}}
    pid = pid_of(backend)
    began = time.monotonic()
    await backend.close()
    assert group_is_gone(pid)
    assert time.monotonic() - began < 1.5
    with pytest.raises(BackendClosedError):
        await ask(backend, "x")


async def test_a_server_that_crashes_is_begun_anew(backend: McpCommBackend):
    await backend.register_endpoint("w", CLERK)
    waiting = asyncio.create_task(ask(backend, "wait"))
    await soon(lambda: peer_of(backend).agreed.value is not None and peer_of(backend).link._waiting)
    told = r"the server ended \(exit code 3\): 'out of paper'"
    with pytest.raises(ConnectError, match=told) as caught:
        await ask(backend, "crash")
    assert str(caught.value).startswith(CLERK)
    assert caught.value.retryable
    with pytest.raises(ConnectError, match=told):
        await waiting
    assert (await ask(backend, "again"))["text"] == "again"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (f"{CLERK} breaks", r"the server ended \(exit code 1\): 'no register here'"),
        ("stdio:/no/such/command --x", "the command cannot be run: .*No such file"),
        ("stdio:/etc/passwd", "the command cannot be run: .*Permission denied"),
        ("stdio:x\0y", "the command cannot be run: "),
        ("stdio:true", r"the server ended \(exit code 0\)"),
    ],
)
async def test_a_command_that_is_no_server(backend: McpCommBackend, address: str, told: str):
    await backend.register_endpoint("w", address)
    with pytest.raises(ConfigError if "cannot" in told else ConnectError, match=told) as caught:
        await ask(backend, "x")
    assert str(caught.value).startswith(address)
    assert not await backend.health_check("w")


async def test_what_a_server_prints_besides_is_passed_over(backend: McpCommBackend, caplog: pytest.LogCaptureFixture):
    await backend.register_endpoint("w", f"{CLERK} chats")
    assert (await ask(backend, "x"))["text"] == "x"
    assert "not a message on its standard output: b'Welcome to the clerk!" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("strange id", "answered request '77', which was never sent"),
        ("large", f"a message is over the limit of {MAX_EVENT_BYTES} bytes"),
    ],
)
async def test_a_server_that_is_not_understood_is_ended(backend: McpCommBackend, text: str, told: str):
    await backend.register_endpoint("w", CLERK)
    assert (await ask(backend, "x"))["text"] == "x"
    waiting = asyncio.create_task(ask(backend, "wait"))
    await soon(lambda: len(peer_of(backend).link._waiting) == 1)
    pid = pid_of(backend)
    with pytest.raises(ProtocolError, match=told):
        await ask(backend, text)
    with pytest.raises(ProtocolError, match=told):
        await waiting
    assert (await ask(backend, "x"))["text"] == "x"
    assert pid_of(backend) != pid
    assert group_is_gone(pid)


async def test_a_reader_that_does_not_keep_up_fails_alone(backend: McpCommBackend):
    await backend.register_endpoint("w", CLERK)
    events = backend.stream("c", "w", {"text": "flood"})
    assert (await anext(events))["data"] == "0"
    assert (await ask(backend, "x"))["text"] == "x"
    with pytest.raises(ProtocolError, match="the unread part of the answer"):
        async for _ in events:
            pass
    assert (await ask(backend, "y"))["text"] == "y"


async def test_a_cancel_is_told(backend: McpCommBackend, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "streaming_queue.protocol_backend.mcp")
    await backend.register_endpoint("w", CLERK)
    asking = asyncio.create_task(ask(backend, "wait"))
    await soon(lambda: "waits" in caplog.text)
    asking.cancel()
    await asyncio.wait({asking}, timeout=1)
    assert asking.cancelled()
    await soon(lambda: "cancelled 3" in caplog.text)
    assert (await ask(backend, "x"))["text"] == "x"


async def test_a_server_gets_no_secrets_but_those_named(backend: McpCommBackend, monkeypatch: pytest.MonkeyPatch):
    for name in ("OPENAI_API_KEY", "CLERKS_KEY", "STQ_NETWORK__TOKEN", "STQ_NETWORK__OPERATOR_TOKEN"):
        monkeypatch.setenv(name, "s3cret")
    await backend.register_endpoint("w", CLERK)
    names = json.loads((await ask(backend, "environment"))["text"])
    assert "CLERKS_KEY" in names
    assert "PATH" in names
    assert not {"OPENAI_API_KEY", "STQ_NETWORK__TOKEN", "STQ_NETWORK__OPERATOR_TOKEN"} & {*names}


async def test_a_server_that_will_not_go_is_ended_within_bounds(
    backend: McpCommBackend, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, "streaming_queue.protocol_backend.mcp")
    await backend.register_endpoint("w", f"{CLERK} stays")
    waiting = asyncio.create_task(ask(backend, "wait"))
    await soon(lambda: "waits" in caplog.text)
    pid = pid_of(backend)
    began = time.monotonic()
    await backend.close()
    assert time.monotonic() - began < 4
    await until(lambda: asyncio.to_thread(group_is_gone, pid), 10)  # and what it began itself
    with pytest.raises(CommError):
        await waiting


async def test_a_server_ends_with_an_owner_that_is_killed(tmp_path: Path):
    owner = tmp_path / "owner.py"
    owner.write_text(f"""
import asyncio, sys
from streaming_queue.protocol_backend.mcp.comm import McpCommBackend
from streaming_queue.runner.runner_base import run_fast

async def main():
    backend = McpCommBackend()
    await backend.register_endpoint("w", {CLERK + " stays"!r})
    await backend.connect("c", "w")
    print(backend._peers["w"].link.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
""")
    process = await asyncio.create_subprocess_exec(sys.executable, str(owner), stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    assert not group_is_gone(pid)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await until(lambda: asyncio.to_thread(group_is_gone, pid), 10)


async def test_an_agreement_that_nobody_waits_for_ends_with_the_backend():
    backend = McpCommBackend()
    await backend.register_endpoint("w", "stdio:sleep 60")
    asking = asyncio.create_task(ask(backend, "x"))
    await soon(lambda: peer_of(backend).link.pid is not None)
    pid = pid_of(backend)
    asking.cancel()
    await asyncio.wait({asking})
    await backend.close()
    assert group_is_gone(pid)


def test_the_fast_loop_of_our_commands_sees_the_end_of_a_server():
    async def crash() -> None:
        backend = McpCommBackend()
        try:
            await backend.register_endpoint("w", CLERK)
            assert (await ask(backend, "x"))["text"] == "x"
            with pytest.raises(ConnectError, match=r"exit code 3\): 'out of paper'"):
                await ask(backend, "crash")
        finally:
            await backend.close()

    run_fast(crash())
