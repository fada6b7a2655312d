"""The idempotency key of a cancel. `Cancels` lives in `exchange.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streaming_queue.comm.client.exchange import CANCEL_TIMEOUT_S, Cancels

__all__ = ["CANCEL_TIMEOUT_S", "Cancels", "cancel_key"]


def cancel_key(payload: Mapping[str, Any]) -> str | None:
    """The idempotency key by which the work on a message is cancelled; None without one, and for a command."""
    metadata = payload.get("metadata") or {}
    key = metadata.get("idempotency_key")
    return key if isinstance(key, str) and key and metadata.get("kind") != "command" else None
