"""What rides along, lost on the way."""

from __future__ import annotations

from typing import Any

from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class SwallowsMetadata(InprocCommBackend):
    """Brings no metadata back."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        reply = await super().send(src_id, dst_id, payload)
        return {"raw": reply["raw"], "text": reply["text"]}


class ForgetsTheDeadline(InprocCommBackend):
    """Tells the agent everything but the deadline."""

    def request(self, agent_id: str, payload: Any, **more: Any) -> Any:
        metadata = {key: value for key, value in (payload.get("metadata") or {}).items() if key != "deadline_ms"}
        return super().request(agent_id, {**payload, "metadata": metadata}, **more)


class RunsTwice(InprocCommBackend):
    """Takes each message for a new question, whatever its key."""

    def request(self, agent_id: str, payload: Any, **more: Any) -> Any:
        context = super().request(agent_id, payload, **more)
        call = context.call_context
        context.call_context = type(call)(
            **{name: getattr(call, name) for name in call.__slots__ if name != "idempotency_key"}
        )
        return context
