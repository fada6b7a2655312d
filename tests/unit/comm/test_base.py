from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.comm.base import BaseCommBackend, EndpointOptions
from streaming_queue.errors import ConfigError, UnknownAgentError
from streaming_queue.messages import MESSAGE


class Minimal(BaseCommBackend):
    """The two required methods, and no super().__init__()."""

    schemes = ("toy", "toys")

    def __init__(self, reply: Any = None) -> None:
        self.reply = reply

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        return self.reply

    async def health_check(self, agent_id: str) -> bool:
        return False


def test_two_methods_are_required():
    assert BaseCommBackend.__abstractmethods__ == {"send", "health_check"}


async def test_an_address_is_remembered():
    backend = Minimal()
    await backend.register_endpoint("a", "toy://1")
    await backend.register_endpoint("a", "toy://1")
    await backend.register_endpoint("b", "toys://2")
    assert backend.endpoints == {"a": "toy://1", "b": "toys://2"}
    assert backend.endpoint("b") == "toys://2"


async def test_a_scheme_that_the_protocol_does_not_speak_is_refused():
    backend = Minimal()
    with pytest.raises(ConfigError, match="'a': address 'http://1' must start with toy:// or toys://"):
        await backend.register_endpoint("a", "http://1")
    with pytest.raises(UnknownAgentError, match="'a'"):
        backend.endpoint("a")


@pytest.mark.parametrize("metadata", [{}, {"metadata": {"llm_ms": 1}}])
async def test_the_default_stream_is_one_send(metadata: dict[str, Any]):
    backend = Minimal({"raw": None, "text": "x", **metadata})
    assert [event async for event in backend.stream("s", "d", {"text": "q"})] == [
        {"type": MESSAGE, "data": "x", **metadata}
    ]


async def test_the_other_methods_have_harmless_defaults():
    backend = Minimal()
    await backend.connect("a", "b")
    await backend.close()
    with pytest.raises(ConfigError, match=r"Minimal cannot host 'a' in this process.*qa\.worker\.endpoints"):
        await backend.spawn_local_agent("a", "127.0.0.1", 0, None)


async def test_a_request_reaches_neighbours_only_through_a_network():
    backend = Minimal()
    with pytest.raises(ConfigError, match="outside of a network"):
        await backend.request("a", {"text": "q"}).call("b", {"text": "r"})
    calls: list[Any] = []

    async def route(src_id: str, dst_id: str, payload: Any) -> Any:
        calls.append((src_id, dst_id, payload))
        return {"raw": None, "text": "ok"}

    backend.route = route
    assert (await backend.request("a", {"text": "q"}).call("b", {"text": "r"}))["text"] == "ok"
    assert calls == [("a", "b", {"text": "r"})]


def test_a_credential_is_not_shown():
    assert "secret" not in repr(EndpointOptions(credential="secret"))
