"""Telling peers that nobody waits for an answer any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from streaming_queue.errors import StreamingQueueError

logger = logging.getLogger(__name__)

CANCEL_TIMEOUT_S = 1.0


class Cancels:
    """The cancels of one backend or peer that are under way; each has a second, and outlives whoever was cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def tell(self, address: str, cancel: Callable[[], Awaitable[object]]) -> None:
        """Await `cancel`, one second at the most; one that fails is only logged. Once closed, nothing is told."""
        if self._closed:
            return
        task = asyncio.create_task(_within_bound(address, cancel), name=f"cancel:{address}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)

    async def aclose(self) -> None:
        """Wait for those under way, which end within their second. Idempotent."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_TIMEOUT_S)


def cancel_key(payload: Mapping[str, Any]) -> str | None:
    """The idempotency key by which the work on a message is cancelled; None without one, and for a command."""
    metadata = payload.get("metadata") or {}
    key = metadata.get("idempotency_key")
    return key if isinstance(key, str) and key and metadata.get("kind") != "command" else None


async def _within_bound(address: str, cancel: Callable[[], Awaitable[object]]) -> None:
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            await cancel()
    except (StreamingQueueError, OSError) as error:
        logger.debug("%s: the cancel did not arrive (%s); its grace ends the question", address, error)
