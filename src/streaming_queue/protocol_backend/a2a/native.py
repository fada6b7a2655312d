"""Hosting of executors that are written for the A2A SDK."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import Event, EventQueue
from a2a.server.request_handlers.default_request_handler_v2 import DefaultRequestHandlerV2
from a2a.types.a2a_pb2 import AgentCard, Message, SendMessageRequest, Task
from a2a.utils.errors import A2AError, InternalError

from streaming_queue.errors import UnavailableError, error_event
from streaming_queue.protocol_backend.a2a.agent_errors import to_a2a
from streaming_queue.protocol_backend.a2a.task_store import BoundedTaskStore, Busy

logger = logging.getLogger(__name__)

SETTLE_S = 1.0
"""The time, in seconds, that a drain waits for the tasks of executors that have returned."""


def is_native(executor: Any) -> bool:
    """Whether this is an executor of the SDK: a subclass, or an object with both methods and their parameters."""
    if isinstance(executor, AgentExecutor):
        return True
    methods = (getattr(executor, "execute", None), getattr(executor, "cancel", None))
    return all(
        inspect.iscoroutinefunction(method) and list(inspect.signature(method).parameters) == ["context", "event_queue"]
        for method in methods
    )


class Discreet(AgentExecutor):
    """An executor whose foreign exceptions are only logged on this host; the protocol's own errors pass."""

    def __init__(self, agent_id: str, executor: Any, busy: Busy) -> None:
        self._agent_id = agent_id
        self._executor = executor
        self._busy = busy

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Run the executor."""
        with self._busy.working(), self._logged("failed on this message"):
            await self._executor.execute(context, event_queue)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Cancel the executor's work on a task."""
        with self._logged("could not cancel"):
            await self._executor.cancel(context, event_queue)

    @contextmanager
    def _logged(self, failure: str) -> Iterator[None]:
        try:
            yield
        except A2AError:
            raise
        except Exception as error:
            logger.exception("agent %s %s", self._agent_id, failure)
            raise InternalError(f"the agent {failure}; its log has the reason") from error


class NativeHandler(DefaultRequestHandlerV2):
    """The SDK's handler; a follow-up that names only its task stays in the task's context.

    `ready`: the agent takes messages.
    """

    def __init__(self, agent_id: str, executor: Any, card: AgentCard) -> None:
        self.ready = True
        self._agent_id = agent_id
        self._tasks = BoundedTaskStore()
        self._busy = Busy()
        super().__init__(
            agent_executor=Discreet(agent_id, executor, self._busy), task_store=self._tasks, agent_card=card
        )

    async def drain(self, timeout_s: float) -> None:
        """Refuse new messages, and wait for those in flight and their tasks, `timeout_s` at most."""
        self.ready = False
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._busy.idle.wait()
                # The task may not have its last event yet; an executor may also leave a task unfinished.
                async with asyncio.timeout(SETTLE_S):
                    await self._tasks.busy.idle.wait()

    async def stop(self, stop_s: float) -> None:
        """End the executor's tasks, within `stop_s`."""
        try:
            async with asyncio.timeout(stop_s):
                await self.aclose()
        except TimeoutError:
            logger.warning("agent %r: its tasks do not end when they are cancelled", self._agent_id)

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Message | Task:
        """Pass a message to the executor."""
        with self._busy.working():
            answer: Message | Task = await super().on_message_send(params, context)
            return answer

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Pass a message to the executor; yield its events."""
        with self._busy.working():
            async with aclosing(super().on_message_send_stream(params, context)) as events:
                async for event in events:
                    yield event

    async def _setup_active_task(self, params: SendMessageRequest, call_context: ServerCallContext) -> Any:
        if not self.ready:
            stopping = UnavailableError(f"agent {self._agent_id!r} drains and takes no new messages")
            raise to_a2a(error_event(stopping))
        message = params.message
        if message.task_id and not message.context_id:
            task = await self._tasks.get(message.task_id, call_context)
            if task is not None:
                message.context_id = task.context_id
        return await super()._setup_active_task(params, call_context)
