from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from streaming_queue.config import Config
from streaming_queue.doctor import ports
from streaming_queue.doctor.finding import Level


@pytest.fixture
def taken():
    """A port of the loopback that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_no_port_is_configured():
    (finding,) = ports.ports(Config())
    assert (finding.level, finding.seen) == (Level.OK, "none is configured: a run takes free ones")


def test_which_are_named_in_a_mixed_network():
    groups = [{"protocol": "inproc"}, {"endpoints": ["ws://a:1"], "protocol": "ws"}, {"protocol": "ws"}]
    config = Config.of({"workers": groups, "qa": {"worker": {"start_port": 7001}}})
    assert list(ports.named_ports(config)) == [("Worker-3", "127.0.0.1", 7003)]


def test_which_are_named():
    settings = {"coordinator": {"port": 7001}, "worker": {"start_port": 7002, "count": 2, "host": "localhost"}}
    config = Config.of({"qa": settings})
    assert list(ports.named_ports(config)) == [
        ("Coordinator-1", "127.0.0.1", 7001),
        ("Worker-1", "localhost", 7002),
        ("Worker-2", "localhost", 7003),
    ]
    assert list(ports.named_ports(Config.of({"qa": settings, "protocol": "inproc"}))) == []
    endpoints = settings | {"worker": {"start_port": 7002, "endpoints": ["http://a:1"]}}
    assert [name for name, _, _ in ports.named_ports(Config.of({"qa": endpoints}))] == ["Coordinator-1"]


def test_the_workers_of_pools_are_named_where_they_have_a_wire():
    pools = {"A": {"count": 1, "protocol": "inproc"}, "B": {"count": 2}}
    network = {"topology": "hierarchical", "pools": pools}
    config = Config.of({"network": network, "qa": {"worker": {"start_port": 7002}}})
    assert [(name, port) for name, _, port in ports.named_ports(config)] == [("Worker-2", 7003), ("Worker-3", 7004)]


def test_free_and_taken(taken):
    port = free()
    config = Config.of({"qa": {"coordinator": {"port": port}, "worker": {"start_port": taken, "count": 1}}})
    good, bad = ports.ports(config)
    assert (good.level, good.seen) == (Level.OK, f"Coordinator-1 on 127.0.0.1:{port}: free")
    assert (bad.level, bad.code) == (Level.PROBLEM, 2)
    assert bad.seen.startswith(f"Worker-1 on 127.0.0.1:{taken}: taken")
    with socket.create_server(("127.0.0.1", port)):  # nothing was left open
        pass


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_by_whom(taken):
    comm = Path("/proc/self/comm").read_text().strip()
    assert ports.owner_of_port(taken) == f"process {os.getpid()} ({comm})"
    assert ports.owner_of_port(free()) is None


def test_a_system_that_hides_the_owner(tmp_path):
    assert ports.owner_of_port(80, tmp_path) is None


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "x" * 70 + ".example"])
def test_a_host_that_is_not_here(host):
    (finding,) = ports.ports(Config.of({"qa": {"coordinator": {"port": 7001, "host": host}}}))
    assert (finding.level, finding.code) == (Level.PROBLEM, 2)
    assert finding.seen.startswith(f"Coordinator-1 on {host}:7001: ")


def test_a_port_that_is_not_allowed(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ports.socket, "getaddrinfo", refuse)
    (finding,) = ports.ports(Config.of({"qa": {"coordinator": {"port": 80}}}))
    assert "not allowed" in finding.seen
    assert "1023" in finding.remedy
