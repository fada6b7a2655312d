"""What the generated backend keeps to beyond the lines of the contract."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streaming_queue.comm.base import EndpointOptions, HostLimits, HostOptions
from streaming_queue.errors import AuthError, BackendClosedError, ConfigError, ProtocolError, RateLimitedError
from streaming_queue.scaffold.package import TEMPLATE
from streaming_queue.testing.executors import Agent, Echo, Gate, message


@pytest.fixture
def backend_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(TEMPLATE / "src")
    from new_proto.comm import NewProtoCommBackend

    return NewProtoCommBackend


@pytest.fixture
async def make(backend_class: Any, no_stray_tasks: None):
    """Make a backend, closed at the end."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(backend_class(**options))
        return made[-1]

    yield make
    for backend in made:
        await backend.close()


async def hosted(backend: Any, executor: Any) -> str:
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, executor)
    address: str = handle.base_url
    return address


async def test_a_credential_is_demanded_and_sent(make: Any) -> None:
    async def authenticate(credential: str) -> str | None:
        return "Ann" if credential == "right" else None

    async def tell(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message(str(context.principal)))

    address = await hosted(make(host_options=HostOptions(authenticator=authenticate)), Agent(tell))
    for credential in (None, "wrong"):
        backend = make(options={"w": EndpointOptions(credential=credential)})
        await backend.register_endpoint("w", address)
        with pytest.raises(AuthError, match="agent 'w' requires a valid credential"):
            await backend.send("c", "w", {"text": "who am I?"})
        assert await backend.health_check("w")
    backend = make(options={"w": EndpointOptions(credential="right")})
    await backend.register_endpoint("w", address)
    assert (await backend.send("c", "w", {"text": "who am I?"}))["text"] == "Ann"


async def test_a_too_long_message_raises_protocol_error(make: Any) -> None:
    backend = make(host_options=HostOptions(limits=HostLimits(body_bytes=10_000)))
    await backend.register_endpoint("w", await hosted(backend, Echo()))
    with pytest.raises(ProtocolError, match="a line is too long") as caught:
        await backend.send("c", "w", {"text": "x" * 5_000_000})
    assert not caught.value.retryable
    assert (await backend.send("c", "w", {"text": "short"}))["text"] == "short"


async def test_callers_beyond_the_limit_are_asked_to_come_back(make: Any) -> None:
    backend = make(host_options=HostOptions(limits=HostLimits(connections=1)))
    gate = Gate()
    await backend.register_endpoint("w", await hosted(backend, gate))
    first = asyncio.create_task(backend.send("c", "w", {"text": "one"}))
    await gate.started.wait()
    with pytest.raises(RateLimitedError) as caught:
        await backend.send("c", "w", {"text": "two"})
    assert caught.value.retry_after_s == 1.0
    gate.open.set()
    assert (await first)["text"] == "answer 1"


async def test_closing_ends_a_message_to_another_agent(make: Any) -> None:
    gate = Gate()
    address = await hosted(make(), gate)
    backend = make()
    await backend.register_endpoint("w", address)
    asking = asyncio.create_task(backend.send("c", "w", {"text": "one"}))
    await gate.started.wait()
    await backend.close()
    with pytest.raises(BackendClosedError):
        await asking


async def test_what_json_cannot_hold_is_the_message_s_own_fault(make: Any) -> None:
    backend = make()
    await backend.register_endpoint("w", await hosted(backend, Echo()))
    for payload in ({"text": "x", "metadata": {"a": object()}}, {"text": "x", "metadata": {"a": float("nan")}}):
        with pytest.raises(ProtocolError, match="JSON cannot hold it") as caught:
            await backend.send("c", "w", payload)
        assert not caught.value.retryable


@pytest.mark.parametrize("address", ["new-proto://", "new-proto://host", "new-proto://host:x", "new-proto://:1"])
async def test_an_address_that_leads_nowhere_is_refused(make: Any, address: str) -> None:
    with pytest.raises(ConfigError, match="must be new-proto://host:port"):
        await make().register_endpoint("w", address)
