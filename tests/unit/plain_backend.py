"""A backend whose events and replies are plain dictionaries; it imports the contract's base and nothing else of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.base import BaseCommBackend

if TYPE_CHECKING:
    from streaming_queue.messages import Reply, StreamEvent


class PlainBackend(BaseCommBackend):
    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        return {"raw": None, "text": payload["text"], "metadata": {"llm_ms": 1.5}}

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        yield {"type": "agent_status", "data": "thinking", "metadata": {"done": 1}}
        yield {"type": "agent_text_delta", "data": payload["text"]}
        yield {"type": "agent_text_message", "data": payload["text"], "metadata": {"llm_ms": 1.5, "mock": True}}

    async def health_check(self, agent_id: str) -> bool:
        return True

    async def close(self) -> None:
        pass

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> Any:
        raise NotImplementedError
