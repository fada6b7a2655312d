from __future__ import annotations

from typing import Any

import pytest
from unit.comm.agents import Agent, Echo, message

from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
async def backend():
    backend = InprocCommBackend()
    yield backend
    await backend.close()


async def spawn(backend: InprocCommBackend, executor: Any) -> Any:
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, executor)
    await backend.register_endpoint("w", handle.base_url)
    return handle


async def test_an_agent_is_hosted_once(backend: InprocCommBackend):
    handle = await spawn(backend, Echo())
    with pytest.raises(ConfigError, match="'w' is hosted already"):
        await spawn(backend, Echo())
    await handle.stop()
    await spawn(backend, Echo())
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"


async def test_the_sender_is_the_principal(backend: InprocCommBackend):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message(context.principal))

    await spawn(backend, Agent(behave))
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "c"
