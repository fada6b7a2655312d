"""Over every protocol with streams: a heartbeat proves life, only content proves progress."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streaming_queue.comm import registry
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.errors import SendTimeoutError
from streaming_queue.messages import DELTA, STATUS

STREAMING = [name for name in registry.known() if registry.load(name).capabilities.streaming]


class Hangs:
    """Sends a piece, and then only words on its progress."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event({"type": DELTA, "data": "first"})
        while True:
            await event_queue.enqueue_event({"type": STATUS, "data": "at work"})
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("protocol", STREAMING)
async def test_an_agent_that_sends_nothing_new_is_given_up(protocol: str) -> None:
    network = NetworkBase(registry.create(protocol), idle_timeout_s=1.0)
    try:
        handle = await network.comm_backend.spawn_local_agent("w", "127.0.0.1", 0, Hangs())
        await network.register_agent("c")
        await network.register_agent("w", handle.base_url)
        network.setup_star_topology("c")
        async with asyncio.timeout(30):
            events = [event async for event in network.stream_message("c", "w", {"text": "q"})]
        assert events[0] == {"type": DELTA, "data": "first"}
        assert isinstance(events[-1]["error"], SendTimeoutError)
        assert "network.idle_timeout_s" in str(events[-1]["error"])
    finally:
        await network.close()
