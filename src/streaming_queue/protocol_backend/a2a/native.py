"""Executors written for the SDK, hosted as they are."""

from __future__ import annotations

import inspect
import logging
from typing import Any

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers.default_request_handler_v2 import DefaultRequestHandlerV2
from a2a.types.a2a_pb2 import AgentCard, SendMessageRequest
from a2a.utils.errors import A2AError, InternalError

from streaming_queue.protocol_backend.a2a.task_store import BoundedTaskStore

logger = logging.getLogger(__name__)


def is_native(executor: Any) -> bool:
    """Whether this is the SDK's kind of executor: its class, or both its methods with its parameters."""
    if isinstance(executor, AgentExecutor):
        return True
    methods = (getattr(executor, "execute", None), getattr(executor, "cancel", None))
    return all(
        inspect.iscoroutinefunction(method) and list(inspect.signature(method).parameters) == ["context", "event_queue"]
        for method in methods
    )


class Discreet(AgentExecutor):
    """An executor whose exceptions keep their text to this host's log; the protocol's own errors pass."""

    def __init__(self, agent_id: str, executor: Any) -> None:
        self._agent_id = agent_id
        self._executor = executor

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Run the executor."""
        try:
            await self._executor.execute(context, event_queue)
        except A2AError:
            raise
        except Exception as error:
            logger.exception("agent %s failed", self._agent_id)
            raise InternalError("the agent failed on this message; its own log says why") from error

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Cancel what the executor does for a task."""
        try:
            await self._executor.cancel(context, event_queue)
        except A2AError:
            raise
        except Exception as error:
            logger.exception("agent %s failed to cancel", self._agent_id)
            raise InternalError("the agent could not cancel; its own log says why") from error


class NativeHandler(DefaultRequestHandlerV2):
    """The SDK's handler; a follow-up that names only its task stays in the task's context."""

    def __init__(self, agent_id: str, executor: Any, card: AgentCard) -> None:
        self._tasks = BoundedTaskStore()
        super().__init__(agent_executor=Discreet(agent_id, executor), task_store=self._tasks, agent_card=card)

    async def _setup_active_task(self, params: SendMessageRequest, call_context: ServerCallContext) -> Any:
        message = params.message
        if message.task_id and not message.context_id:
            task = await self._tasks.get(message.task_id, call_context)
            if task is not None:
                message.context_id = task.context_id
        return await super()._setup_active_task(params, call_context)
