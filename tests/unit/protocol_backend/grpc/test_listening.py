"""Where a host listens, how it ends, and TLS."""

from __future__ import annotations

import asyncio
import gc
import ssl
import threading
import time
from functools import partial
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from unit.comm.agents import LIMITS, Echo, Stubborn, until

from streaming_queue.comm import grpc_wire
from streaming_queue.comm.base import EndpointOptions, HostOptions
from streaming_queue.errors import ConfigError, ConnectError
from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


# --- where it listens ---


async def test_a_port_in_use_and_a_public_address(spawn: Any):
    port, backend = await spawn(Echo())
    with pytest.raises(ConnectError, match=f"agent 'v': cannot listen on 127.0.0.1:{port}: the port is in use"):
        await backend.spawn_local_agent("v", "127.0.0.1", port, Echo())
    with pytest.raises(ConfigError, match=r"refusing to listen on 0\.0\.0\.0"):
        await backend.spawn_local_agent("v", "0.0.0.0", 0, Echo())


async def test_whoever_is_quicker_has_the_port(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    port, backend = await spawn(Echo())
    tried = 0
    listen = grpc_wire.listen

    async def listen_elsewhere(*arguments: Any) -> Any:
        nonlocal tried
        tried += 1
        listener = await listen(*arguments)
        object.__setattr__(listener, "port", port)
        return listener

    monkeypatch.setattr(grpc_wire, "listen", listen_elsewhere)
    with pytest.raises(ConnectError, match="another process took the port each time"):
        await backend.spawn_local_agent("v", "127.0.0.1", 0, Echo())
    assert tried == 3


@pytest.mark.parametrize("host", ["::1", "localhost"])
async def test_other_names_of_this_machine(spawn: Any, host: str):
    _, backend = await spawn(Echo(), host=host)
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"


async def test_an_agent_may_come_back_at_its_port_and_is_found_soon(spawn: Any):
    port, backend = await spawn(Echo())
    assert await backend.health_check("w")
    (agent,) = spawn.agents
    await agent.stop()
    assert not await backend.health_check("w")
    await asyncio.sleep(0.5)
    await backend.spawn_local_agent("w", "127.0.0.1", port, Echo())
    await until(partial(backend.health_check, "w"), 2)
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"


async def test_stopping_is_bounded_although_somebody_watches_and_somebody_hangs(spawn: Any, dial: Any):
    stubborn = Stubborn()
    port, backend = await spawn(stubborn)
    watching = health_pb2_grpc.HealthStub(dial(port)).Watch(health_pb2.HealthCheckRequest())
    await watching.read()
    sending = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
    await stubborn.started.wait()
    (agent,) = spawn.agents
    started = time.monotonic()
    await agent.stop()
    assert time.monotonic() - started < LIMITS.stop_s + 0.3
    with pytest.raises(ConnectError):
        await sending
    stubborn.release.set()


# --- TLS ---


async def test_tls_in_grpcs_own_terms(spawn: Any, certificate: tuple[bytes, bytes]):
    trust = grpc.ssl_channel_credentials(certificate[1])
    own = grpc.ssl_server_credentials([certificate])
    _, backend = await spawn(
        Echo(), host="localhost", backend_options={"channel_credentials": {"w": trust}, "server_credentials": own}
    )
    address = backend.endpoints["w"]
    assert address.startswith("grpcs://localhost:")
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"
    assert await backend.health_check("w")
    await backend.register_endpoint("stranger", address)
    with pytest.raises(ConnectError, match=f"{address}: UNAVAILABLE"):
        await backend.send("c", "stranger", {"text": "q"})
    await backend.register_endpoint("plain", address.replace("grpcs", "grpc"))
    with pytest.raises(ConnectError):
        await backend.send("c", "plain", {"text": "q"})


async def test_an_ssl_context_is_refused_with_the_remedy():
    context = await asyncio.to_thread(ssl.create_default_context)
    backend = GrpcCommBackend(options={"w": EndpointOptions(tls=context)}, host_options=HostOptions(tls=context))
    with pytest.raises(ConfigError, match=r"agent 'w'.*channel_credentials"):
        await backend.register_endpoint("w", "grpcs://localhost:1")
    with pytest.raises(ConfigError, match=r"agent 'v'.*server_credentials"):
        await backend.spawn_local_agent("v", "127.0.0.1", 0, Echo())


async def test_the_librarys_thread_is_never_waited_for_in_a_loop(spawn: Any):
    _, backend = await spawn(Echo())
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"
    await backend.close()
    backend._agents, backend._peers, backend._ever = [], {}, []
    gc.collect()
    assert any("_poll_wrapper" in thread.name for thread in threading.enumerate())
