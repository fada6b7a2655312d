"""Shared steps of checks: a message in flight, its cancellation, an agent that answers again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from streaming_queue.errors import ConnectError, SendTimeoutError
from streaming_queue.testing.expect import SLACK_S, unmet, within
from streaming_queue.testing.lab import Lab

CANCEL_S = 1.0
BACK_S = 10.0


async def begun(lab: Lab, agent: Any, **metadata: Any) -> asyncio.Task[Any]:
    """Send a message and wait until its agent has `started`."""
    sending = asyncio.create_task(lab.send(**metadata), name="send")
    await within(5, agent.started.wait(), "the question at the agent")
    return sending


async def leave(sending: asyncio.Task[Any]) -> None:
    """Cancel a message like its caller. The check fails unless the message is cancelled in time."""
    sending.cancel()
    await asyncio.wait({sending}, timeout=CANCEL_S + SLACK_S)
    if not sending.done():
        unmet(f"an end within {CANCEL_S:g} s of its cancellation", "it goes on")
    if not sending.cancelled():
        unmet("CancelledError out of a cancelled `send`", sending.exception() or f"an answer: {sending.result()!a}")


async def unhealthy(lab: Lab, what: str) -> None:
    """Fail the check unless the probe is False within a second."""
    until = time.monotonic() + 1.0 + SLACK_S
    while await within(4, lab.backend.health_check("w"), "the probe's answer"):
        if time.monotonic() > until:
            unmet(f"{what} is unhealthy within 1 s", "it is healthy")
        await asyncio.sleep(0.05)


async def answers_again(lab: Lab, **metadata: Any) -> str:
    """The answer of the agent. The check fails unless it arrives in time. Older connections may break first."""
    until = time.monotonic() + BACK_S
    while True:
        try:
            return str((await within(BACK_S, lab.send(**metadata), "an answer"))["text"])
        except (ConnectError, SendTimeoutError) as error:
            if time.monotonic() > until:
                unmet(f"an answer within {BACK_S:g} s", error)
            await asyncio.sleep(0.1)
