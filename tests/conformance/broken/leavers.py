"""Backends that do not let anybody go, or let everybody go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class IgnoresCancel(InprocCommBackend):
    """Leaves the work to itself when its sender leaves."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        return await asyncio.shield(asyncio.ensure_future(super().send(src_id, dst_id, payload)))


class CancelsCommands(InprocCommBackend):
    """Cancels whatever its sender leaves, commands too."""

    async def _events(
        self, src_id: str, dst_id: str, payload: dict[str, Any], *, streaming: bool
    ) -> AsyncIterator[Any]:
        metadata = {key: value for key, value in (payload.get("metadata") or {}).items() if key != "kind"}
        async for event in super()._events(src_id, dst_id, {**payload, "metadata": metadata}, streaming=streaming):
            yield event
