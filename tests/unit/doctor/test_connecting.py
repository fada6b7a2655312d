from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from streaming_queue.doctor import connecting as module
from streaming_queue.doctor.connecting import connect
from streaming_queue.errors import ConfigError, ConnectError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
async def listener():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_connection_is_made(listener):
    ip, connect_ms = await connect(f"http://127.0.0.1:{listener}/path")
    assert ip == "127.0.0.1"
    assert 0 < connect_ms < 3000


async def test_the_next_address_of_a_name_is_tried(listener, monkeypatch):
    places = [(socket.AF_INET, 1, 6, "", (ip, listener)) for ip in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(module.socket, "getaddrinfo", lambda *_, **__: places)
    assert (await connect(f"http://two.example:{listener}"))[0] == "127.0.0.1"


async def test_nothing_listens():
    with pytest.raises(ConnectError, match=r"^nothing listens at 127\.0\.0\.1:9$"):
        await connect("http://127.0.0.1:9")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70 + ".example"])
async def test_an_unknown_name(host):
    with pytest.raises(ConnectError, match=f"the name {host} is unknown: .*check its spelling"):
        await connect(f"http://{host}:9001")


@pytest.mark.parametrize("address", ["inproc://Worker-1", "tcp://127.0.0.1", "unix:///tmp/socket"])
async def test_an_address_without_host_and_port_is_not_checked(address):
    assert await connect(address) is None


@pytest.mark.parametrize("address", ["http://[::1", "http://host:port", "http://host:99999"])
async def test_an_invalid_address(address):
    with pytest.raises(ConfigError, match="the address is invalid"):
        await connect(address)


async def test_a_name_server_that_hangs_ends_in_time(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(module, "STEP_S", 0.1)
    monkeypatch.setattr(module.socket, "getaddrinfo", lambda *_, **__: release.wait(60))
    began = time.monotonic()
    with pytest.raises(ConnectError, match=r"was not resolved within 0\.1 s"):
        await connect("http://slow.example:9001")
    assert time.monotonic() - began < 5
    release.set()


async def test_a_connection_that_is_dropped_on_the_way(monkeypatch):
    """A listener whose queue is full: the kernel ignores further attempts, as a firewall does."""
    monkeypatch.setattr(module, "STEP_S", 0.2)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(3):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(full.getsockname())
        with pytest.raises(ConnectError, match=r"no connection to .* within 0\.2 s: a firewall"):
            await connect(f"http://127.0.0.1:{full.getsockname()[1]}")
        for connection in waiting:
            connection.close()
