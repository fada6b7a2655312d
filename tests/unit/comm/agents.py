"""Executors that do as a test needs, requests to them, and the limits of their hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.context import RequestContext
from streaming_queue.testing import Agent, Echo, Gate, Stubborn, message, soon

__all__ = ["LIMITS", "Agent", "Echo", "Gate", "Stubborn", "message", "request", "soon", "until"]

LIMITS = HostLimits(disconnect_grace_s=0.3, stop_s=1.0)


def request(text: str = "q", *, principal: str | None = None, **metadata: Any) -> RequestContext:
    return RequestContext({"text": text, "metadata": metadata}, agent_id="w", principal=principal)


async def until(condition: Callable[[], bool | Awaitable[bool]], within_s: float = 30.0) -> None:
    """Wait until `condition` holds. It may ask another side, or look at files and processes."""
    async with asyncio.timeout(within_s):
        while not (holds if isinstance(holds := condition(), bool) else await holds):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
