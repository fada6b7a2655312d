"""One instance of an agent: `instance_process.py URL NAME`; prints a line when it is ready, and one a question.

It answers `quick` at once, anything else never.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from streaming_queue.protocol_backend.nats.comm import NatsCommBackend


class Executor:
    def __init__(self, name: str) -> None:
        self.name = name

    async def execute(self, context: Any, event_queue: Any) -> None:
        text = context.get_user_input()
        print(text, flush=True)
        if text != "quick" and not text.endswith(f"not {self.name}"):
            await asyncio.Event().wait()
        await event_queue.enqueue_event({"type": "agent_text_message", "data": self.name})


async def main(url: str, name: str) -> None:
    await NatsCommBackend(url=url, prefix="t").spawn_local_agent("w", "", 0, Executor(name))
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
