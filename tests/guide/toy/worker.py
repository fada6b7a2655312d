# script/streaming_queue/protocol_backend/toy/worker.py, the guide's 3.3 word for word
from __future__ import annotations
from typing import Any, Dict
from ...core.qa_worker_base import QAWorkerBase

class ToyWorkerExecutor:
    def __init__(self, config: Dict | None = None, output=None):
        self.worker = QAWorkerBase(config, output)

    async def execute(self, context, event_queue):
        text = context.get_user_input() or ""
        answer = await self.worker.answer(text)
        await event_queue.enqueue_event({"type":"agent_text_message","data": answer})
