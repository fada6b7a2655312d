"""Executors that do as a test needs, and requests to them."""

from __future__ import annotations

from typing import Any

from streaming_queue.comm.context import RequestContext
from streaming_queue.testing import Agent, Echo, Gate, Stubborn, message, soon

__all__ = ["Agent", "Echo", "Gate", "Stubborn", "message", "request", "soon"]


def request(text: str = "q", *, principal: str | None = None, **metadata: Any) -> RequestContext:
    return RequestContext({"text": text, "metadata": metadata}, agent_id="w", principal=principal)
