"""Executors that do as a test needs, requests to them, and the limits of their hosts."""

from __future__ import annotations

from typing import Any

from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.context import RequestContext
from streaming_queue.testing import Agent, Echo, Gate, Stubborn, message, soon

__all__ = ["LIMITS", "Agent", "Echo", "Gate", "Stubborn", "message", "request", "soon"]

LIMITS = HostLimits(disconnect_grace_s=0.3, stop_s=1.0)


def request(text: str = "q", *, principal: str | None = None, **metadata: Any) -> RequestContext:
    return RequestContext({"text": text, "metadata": metadata}, agent_id="w", principal=principal)
