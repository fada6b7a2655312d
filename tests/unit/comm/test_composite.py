from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.composite import CompositeBackend, backend_of
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class FixedCommBackend(BaseCommBackend):
    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        return {"raw": None, "text": f"fixed {dst_id} at {self.endpoint(dst_id)}"}

    async def health_check(self, agent_id: str) -> bool:
        return False

    async def describe(self, agent_id: str) -> dict[str, Any]:
        return {"fixed": agent_id}


class FailingCommBackend(FixedCommBackend):
    async def close(self) -> None:
        raise OSError("it would not")


class Relay:
    async def execute(self, context: Any, event_queue: Any) -> None:
        reply = await context.call("W", {"text": "x"})
        await event_queue.enqueue_event({"type": "agent_text_message", "data": f"relayed {reply['text']}"})


async def test_each_agent_is_reached_by_its_own_backend() -> None:
    composite = CompositeBackend(FixedCommBackend())
    inproc = InprocCommBackend()
    composite.assign("C", inproc)
    network = NetworkBase(composite)
    handle = await composite.spawn_local_agent("C", "", 0, Relay())
    await network.register_agent("C", handle.base_url)
    await network.register_agent("W", "anything:1")
    network.setup_star_topology("C")
    assert (await network.route_message("C", "W", {"text": "x"}))["text"] == "fixed W at anything:1"
    assert (await network.route_message("Runner", "C", {"text": "x"}))["text"] == "relayed fixed W at anything:1"
    assert [event async for event in composite.stream("Runner", "C", {"text": "x"})][-1]["data"].startswith("relayed")
    assert await network.health_check() == {"C": True, "W": False}
    assert (await composite.describe("C"), await composite.describe("W")) == ({}, {"fixed": "W"})
    assert (composite.protocol_of("C"), composite.protocol_of("W")) == ("inproc", "fixed")
    await network.close()
    assert not inproc.hosted


async def test_one_that_will_not_close_keeps_none_of_the_others_open() -> None:
    composite = CompositeBackend(FailingCommBackend())
    inproc = InprocCommBackend()
    composite.assign("C", inproc)
    await composite.spawn_local_agent("C", "", 0, Relay())
    with pytest.raises(OSError, match="it would not"):
        await composite.close()
    assert not inproc.hosted


def test_the_backend_of_an_agent() -> None:
    default, own = FixedCommBackend(), InprocCommBackend()
    composite = CompositeBackend(default)
    composite.assign("C", own)
    assert [backend_of(composite, agent_id) for agent_id in ("C", "W")] == [own, default]
    assert backend_of(own, "C") is own
