"""Executors written for the SDK, hosted as they are."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import Event, EventQueue
from a2a.server.request_handlers.default_request_handler_v2 import DefaultRequestHandlerV2
from a2a.types.a2a_pb2 import AgentCard, Message, SendMessageRequest, Task
from a2a.utils.errors import A2AError, InternalError

from streaming_queue.errors import ConnectError, error_event
from streaming_queue.protocol_backend.a2a.agent_errors import to_a2a
from streaming_queue.protocol_backend.a2a.task_store import BoundedTaskStore

logger = logging.getLogger(__name__)

SETTLE_S = 1.0
"""How long a drain waits for the tasks of executors that have returned."""


def is_native(executor: Any) -> bool:
    """Whether this is the SDK's kind of executor: its class, or both its methods with its parameters."""
    if isinstance(executor, AgentExecutor):
        return True
    methods = (getattr(executor, "execute", None), getattr(executor, "cancel", None))
    return all(
        inspect.iscoroutinefunction(method) and list(inspect.signature(method).parameters) == ["context", "event_queue"]
        for method in methods
    )


class Work:
    """Counts what is under way; `ended` is set while there is nothing."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.ended.set()
        self._count = 0

    def __enter__(self) -> None:
        self._count += 1
        self.ended.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self.ended.set()


class Discreet(AgentExecutor):
    """An executor whose exceptions keep their text to this host's log; the protocol's own errors pass."""

    def __init__(self, agent_id: str, executor: Any, work: Work) -> None:
        self._agent_id = agent_id
        self._executor = executor
        self._work = work

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Run the executor."""
        try:
            with self._work:
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
    """The SDK's handler; a follow-up that names only its task stays in the task's context.

    `ready`: messages are taken.
    """

    def __init__(self, agent_id: str, executor: Any, card: AgentCard) -> None:
        self.ready = True
        self._agent_id = agent_id
        self._tasks = BoundedTaskStore()
        self._work = Work()
        super().__init__(
            agent_executor=Discreet(agent_id, executor, self._work), task_store=self._tasks, agent_card=card
        )

    async def drain(self, timeout_s: float) -> None:
        """Take no message more, and wait for those under way and their tasks, `timeout_s` at the most."""
        self.ready = False
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._work.ended.wait()
                # What was said last may still be on its way to the task; an executor may also leave one as it is.
                async with asyncio.timeout(SETTLE_S):
                    await self._tasks.settled.wait()

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Message | Task:
        """Pass a message to the executor."""
        with self._work:
            answer: Message | Task = await super().on_message_send(params, context)
            return answer

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Pass a message to the executor; what comes of it."""
        with self._work:
            async with aclosing(super().on_message_send_stream(params, context)) as events:
                async for event in events:
                    yield event

    async def _setup_active_task(self, params: SendMessageRequest, call_context: ServerCallContext) -> Any:
        if not self.ready:
            stopping = ConnectError(f"agent {self._agent_id!r} is about to stop and takes no message more")
            raise to_a2a(error_event(stopping))
        message = params.message
        if message.task_id and not message.context_id:
            task = await self._tasks.get(message.task_id, call_context)
            if task is not None:
                message.context_id = task.context_id
        return await super()._setup_active_task(params, call_context)
