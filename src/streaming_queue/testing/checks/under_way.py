"""A message under way, and its sender who leaves."""

from __future__ import annotations

import asyncio
from typing import Any

from streaming_queue.testing.expect import SLACK_S, unmet, within
from streaming_queue.testing.lab import Lab

CANCEL_S = 1.0


async def begun(lab: Lab, agent: Any, **metadata: Any) -> asyncio.Task[Any]:
    """A message at work at an agent that says when it `started`."""
    sending = asyncio.create_task(lab.send(**metadata), name="send")
    await within(5, agent.started.wait(), "the question at the agent")
    return sending


async def leave(sending: asyncio.Task[Any]) -> None:
    """Cancel a message as its caller does; fails the check unless it ends so, in time."""
    sending.cancel()
    await asyncio.wait({sending}, timeout=CANCEL_S + SLACK_S)
    if not sending.done():
        unmet(f"an end within {CANCEL_S:g} s of its cancellation", "it goes on")
    if not sending.cancelled():
        unmet("CancelledError out of a cancelled `send`", sending.exception() or f"an answer: {sending.result()!a}")
