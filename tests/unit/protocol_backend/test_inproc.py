from __future__ import annotations

from typing import Any

import pytest
from unit.comm.agents import Echo
from unit.protocol_backend.contract import BackendContract

from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class TestInproc(BackendContract):
    backend_class = InprocCommBackend

    async def test_an_agent_is_hosted_once(self, backend: Any, spawn: Any):
        handle = await spawn(Echo())
        with pytest.raises(ConfigError, match="'w' is hosted already"):
            await spawn(Echo())
        await handle.stop()
        await spawn(Echo())
        assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"

    async def test_the_sender_is_the_principal(self, backend: Any, spawn: Any):
        class Who:
            async def execute(self, context: Any, event_queue: Any) -> None:
                await event_queue.enqueue_event({"type": "agent_text_message", "data": context.principal})

        await spawn(Who())
        assert (await backend.send("c", "w", {"text": "q"}))["text"] == "c"
