from __future__ import annotations

import pytest

from streaming_queue.comm import registry
from streaming_queue.comm.wire_address import check_wire_address
from streaming_queue.errors import ConfigError


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:10001",
        "https://agents.example/hotel/ad.json",
        "ws://[::1]:9",
        "wss://h",
        "grpc://h:1",
        "grpcs://h:1",
        "nats://h:4222/stq.Worker-1",
        "tls://h:4222/stq.Worker-1",
        "tcp://h:1",
    ],
)
def test_a_socket_may_come_over_a_wire(address: str) -> None:
    check_wire_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "touch X",
        "stdio:touch X",
        "stdio://bin/touch",
        "STDIO://bin/touch",
        " stdio://bin/touch",
        "st\ndio://bin/touch",
        "http://h:1\nstdio:touch",
        "http://h:1 stdio:touch",
        "http:touch",
        "http:///touch",
        "http://:80",
        "http://h:0",
        "http://h:99999",
        "http://[::1",
        "http://\tx",
        "file:///etc/passwd",
        "file://host/etc/passwd",
        "unix:///run/agent",
        "inproc://Worker-1",
        "os:system",
        "os://system",
        "data:text/plain,x",
        "new-proto://h:1",
    ],
)
def test_whatever_else_may_not(address: str) -> None:
    with pytest.raises(ConfigError, match=r"qa\.worker\.endpoints"):
        check_wire_address(address)


def test_a_backend_names_its_own_sockets() -> None:
    check_wire_address("new-proto://h:1", ("new-proto",))
    with pytest.raises(ConfigError):
        check_wire_address("stdio://bin/touch", ("new-proto",))


@pytest.mark.parametrize("protocol", [spec.name for spec in registry.BUILTIN])
def test_none_of_ours_calls_a_program_a_socket(protocol: str) -> None:
    assert registry.load(protocol).socket_schemes == ()
