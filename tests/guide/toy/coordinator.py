# script/streaming_queue/protocol_backend/toy/coordinator.py, the guide's 3.2 word for word
from __future__ import annotations
from typing import Any, Dict, List
from ...core.qa_coordinator_base import QACoordinatorBase

class ToyCoordinatorExecutor:
    def __init__(self, config: Dict | None = None, output=None):
        self.coordinator = CoordinatorForToy(config, output)

    async def execute(self, context, event_queue):
        user_text = context.get_user_input() or "status"
        cmd = user_text.strip().lower()
        if cmd == "dispatch":
            result = await self.coordinator.dispatch_round()
        else:
            result = await self.coordinator.get_status()
        await event_queue.enqueue_event({"type":"agent_text_message","data": result})

class CoordinatorForToy(QACoordinatorBase):
    async def send_to_worker(self, worker_id: str, question: str) -> Dict[str, Any]:
        payload = {"text": question}
        resp = await self.agent_network.route_message(self.coordinator_id, worker_id, payload)
        return {"answer": (resp or {}).get("text"), "raw": resp}
