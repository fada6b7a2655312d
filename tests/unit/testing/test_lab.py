from __future__ import annotations

from typing import Any

import pytest
from conformance.client_only import ClientOnly

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.http.comm import HttpCommBackend
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend
from streaming_queue.testing.executors import Echo
from streaming_queue.testing.lab import GRACE_S, Lab, make_backend


class AfterTheGuide:
    """What the guide's skeleton has: no claims, no `stream`, no options."""

    async def register_endpoint(self, agent_id: str, address: str) -> None: ...

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        return {"raw": payload, "text": payload["text"]}

    async def health_check(self, agent_id: str) -> bool:
        return True

    async def close(self) -> None: ...


class WithUrl(InprocCommBackend):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url


@pytest.mark.parametrize(
    ("options", "need", "reason"),
    [
        ({}, "agent", "gives no `endpoint`"),
        ({"endpoint": "http://peer:1"}, "host", "http://peer:1 is not ours: its behaviour is not known"),
        ({"endpoint": "http://peer:1"}, "echo", "http://peer:1 is not ours: its answer is not known"),
        ({"endpoint": "http://peer:1", "echoes": True}, "identity", "not claimed: identity"),
    ],
)
def test_what_is_needed_and_lacking_is_skipped_with_its_reason(options: Any, need: Any, reason: str):
    lab = Lab(ClientOnly(), **options)
    with pytest.raises(pytest.skip.Exception, match=reason):
        lab.require((need,))


def test_an_endpoint_is_asked_instead_of_hosting():
    lab = Lab(HttpCommBackend(), endpoint="http://peer:1")
    assert (lab.can_host, lab.hosts) == (True, False)
    with pytest.raises(pytest.skip.Exception, match="is not ours"):
        lab.require(("host",))


def test_what_is_there_is_not_skipped():
    Lab(ClientOnly(), endpoint="http://peer:1", echoes=True).require(("agent", "echo", "streaming"))
    Lab(HttpCommBackend()).require(("host", "echo", "agent", "cancel", "metadata"))


def test_a_backend_is_told_the_limits_where_it_takes_them():
    assert make_backend(HttpCommBackend, {}).host_options.limits.disconnect_grace_s == GRACE_S
    assert make_backend(HttpCommBackend, {}, 0.5).host_options.limits.disconnect_grace_s == 0.5
    assert make_backend(WithUrl, {"url": "x"}).url == "x"
    assert isinstance(make_backend(AfterTheGuide, {}), AfterTheGuide)


async def test_agents_are_asked_through_the_relay_unless_nothing_may_stand_between():
    for relayed in (True, False):
        lab = Lab(HttpCommBackend(), relayed=relayed)
        agent = await lab.host(Echo())
        assert (agent.address != agent.handle.base_url) is relayed
        assert await lab.ask("send", "one") == await lab.ask("stream", "one") == "one"
        if relayed:
            assert b'{"text":"one"}' in agent.wire.sent
        else:
            assert lab.wire() == [f"wire: no relay was possible ({agent.address})"]
            with pytest.raises(pytest.skip.Exception, match="no wire"):
                _ = agent.wire
        await lab.close()


async def test_a_backend_without_stream_has_the_bases():
    lab = Lab(AfterTheGuide())
    assert not lab.hosts
    assert not lab.can_host
    assert await lab.ask("stream", "one") == "one"
    assert not lab.claims.streaming


async def test_a_backend_that_cannot_host_says_so():
    with pytest.raises(ConfigError, match="cannot host"):
        await Lab(ClientOnly()).host(Echo())
    assert ClientOnly.spawn_local_agent is BaseCommBackend.spawn_local_agent
