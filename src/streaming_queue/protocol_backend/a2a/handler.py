"""The guide's executors behind the SDK's routes: a short answer is a message, a long answer is a task."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import RequestHandler
from a2a.server.request_handlers.request_handler import validate_request_params
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    Part,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    ExtendedAgentCardNotConfiguredError,
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.task import apply_history_length, validate_history_length, validate_page_size
from google.protobuf.json_format import MessageToDict, ParseDict
from starlette.requests import Request

from streaming_queue.comm.context import RequestContext
from streaming_queue.comm.host.execution import Execution, Executions
from streaming_queue.errors import StreamingQueueError, error_event
from streaming_queue.messages import ERROR, MESSAGE, End
from streaming_queue.protocol_backend.a2a.agent_errors import sendable, to_a2a
from streaming_queue.protocol_backend.a2a.codec import payload_of
from streaming_queue.protocol_backend.a2a.jobs import Event, Jobs
from streaming_queue.protocol_backend.a2a.task_store import TERMINAL, BoundedTaskStore

TASK_AFTER_S = 1.0
"""After this silence, in seconds, a streamed answer becomes a task, so that its reader can attach again."""


@dataclass(frozen=True)
class Principal(User):
    """The principal as the SDK's user. The name is empty if the guard asks for no credential."""

    user_name: str = ""

    @property
    def is_authenticated(self) -> bool:
        """Whether the guard asked for a credential."""
        return bool(self.user_name)


class ContextBuilder(ServerCallContextBuilder):
    """The SDK's context of a call, with our principal as its user."""

    def build(self, request: Request) -> ServerCallContext:
        """The context for one request."""
        principal = request.scope.get("state", {}).get("principal")
        return ServerCallContext(user=Principal(principal or ""), state={"headers": dict(request.headers)})


def principal_of(context: ServerCallContext) -> str | None:
    """The principal in a context from `ContextBuilder`."""
    return context.user.user_name or None


class AgentHandler(RequestHandler):
    """One hosted agent. Its errors never contain the text of a foreign exception."""

    def __init__(self, agent_id: str, executions: Executions, request: Callable[..., RequestContext]) -> None:
        self._agent_id = agent_id
        self._executions = executions
        self._request = request
        self._store = BoundedTaskStore()
        self._jobs = Jobs(executions, self._store)
        self._by_message: WeakValueDictionary[tuple[str | None, str], Execution] = WeakValueDictionary()

    @property
    def ready(self) -> bool:
        """Whether the agent takes questions."""
        return self._executions.ready

    async def drain(self, timeout_s: float) -> None:
        """Refuse new questions, and wait for those in flight, `timeout_s` at most."""
        await self._executions.drain(timeout_s)

    async def answer(self, payload: Mapping[str, Any], message_id: str, context_id: str, principal: str | None) -> End:
        """Run the executor to its end. CancelTask or a caller that leaves cancels it."""
        try:
            request = self._request(self._agent_id, payload, principal=principal, context_id=context_id)
            with self._executions.attach(request) as execution:
                self._by_message[principal, message_id] = execution
                return await execution.result()
        except StreamingQueueError as error:
            return error_event(error)

    def _attach(
        self, held: ExitStack, payload: Mapping[str, Any], message: Message, principal: str | None, **more: bool
    ) -> Execution:
        request = self._request(self._agent_id, payload, principal=principal, context_id=message.context_id, **more)
        execution = held.enter_context(self._executions.attach(request))
        self._by_message[principal, message.message_id] = execution
        return execution

    def _in_flight(self, message_id: str, principal: str | None) -> Execution | None:
        """The execution of a message in flight."""
        execution = self._by_message.get((principal, message_id))
        return None if execution is None or execution.done else execution

    async def _payload(self, params: SendMessageRequest, context: ServerCallContext) -> dict[str, Any]:
        """The executor's payload. Raises A2A's error for a message that the agent does not accept."""
        validate_history_length(params.configuration)
        message = params.message
        if message.task_id:
            await self._follow_up(message, context)
        if params.configuration.HasField("task_push_notification_config"):
            raise PushNotificationNotSupportedError
        if any(part.WhichOneof("content") != "text" for part in message.parts):
            raise ContentTypeNotSupportedError("this agent takes text parts only")
        if not message.context_id:
            message.context_id = uuid.uuid4().hex
        metadata = {**MessageToDict(params.metadata), **MessageToDict(message.metadata)}
        return payload_of([part.text for part in message.parts], metadata)

    async def _follow_up(self, message: Message, context: ServerCallContext) -> None:
        """Turn a message that names a running task into a message of its own, in the task's context.

        Raises A2A's errors if this is not possible (specification 1.0, sections 3.1.1 and 3.4.3).
        """
        task = await self._store.get(message.task_id, context)
        if task is None:
            raise TaskNotFoundError
        if message.context_id not in ("", task.context_id):
            raise InvalidParamsError(f"task {task.id} belongs to context {task.context_id}")
        if task.status.state in TERMINAL:
            remedy = f"send the message without a task id, in context {task.context_id}"
            raise UnsupportedOperationError(f"task {task.id} has ended: {remedy}")
        message.context_id = task.context_id
        message.reference_task_ids.append(task.id)
        message.ClearField("task_id")

    @validate_request_params
    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task | Message:
        """A message if the caller waits, else a task."""
        payload = await self._payload(params, context)
        message, principal = params.message, principal_of(context)
        if not params.configuration.return_immediately:
            end = await self.answer(payload, message.message_id, message.context_id, principal)
            return _message(end, message.context_id)
        try:
            with ExitStack() as held:
                execution = self._attach(held, payload, message, principal)
                job = await self._jobs.begin(execution, held.pop_all(), message, context)
        except StreamingQueueError as error:
            raise to_a2a(error_event(error)) from None
        return apply_history_length(job.task(), params.configuration)

    @validate_request_params
    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """A message if the whole answer arrives soon, else a task and its events."""
        payload = await self._payload(params, context)
        message, principal = params.message, principal_of(context)
        try:
            with ExitStack() as held:
                execution = self._attach(held, payload, message, principal, streaming=True)
                async with aclosing(execution.batches(TASK_AFTER_S)) as batches:
                    first = await anext(batches)
                if len(first) == 1 and first[0]["type"] in (MESSAGE, ERROR):
                    yield _message(first[0], message.context_id)
                    return
                job = await self._jobs.begin(execution, held.pop_all(), message, context)
        except StreamingQueueError as error:
            raise to_a2a(error_event(error)) from None
        async with aclosing(job.events()) as events:
            async for event in events:
                yield apply_history_length(event, params.configuration) if isinstance(event, Task) else event

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """A running task and its events."""
        job = self._jobs.find(params.id, principal_of(context))
        if job is None:
            if await self._store.get(params.id, context) is None:
                raise TaskNotFoundError
            raise UnsupportedOperationError(f"task {params.id} has ended: get it")
        async with aclosing(job.events()) as events:
            async for event in events:
                yield event

    @validate_request_params
    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task:
        """Cancel a task, or a message in flight by its id; a command goes on."""
        principal = principal_of(context)
        job = self._jobs.find(params.id, principal)
        execution = job.execution if job else self._in_flight(params.id, principal)
        if execution is None and await self._store.get(params.id, context) is None:
            raise TaskNotFoundError
        if execution is None or execution.is_command:
            raise TaskNotCancelableError
        if job is not None:
            return await self._jobs.cancel(job)
        await self._executions.discard(execution)
        return Task(id=params.id, status=TaskStatus(state=TaskState.TASK_STATE_CANCELED))

    @validate_request_params
    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task:
        """A task of the caller, running or recently ended, or a message in flight."""
        validate_history_length(params)
        task = await self._store.get(params.id, context)
        if task is None:
            execution = self._in_flight(params.id, principal_of(context))
            if execution is None:
                raise TaskNotFoundError
            at_work = TaskStatus(state=TaskState.TASK_STATE_WORKING)
            return Task(id=params.id, context_id=execution.context.context_id, status=at_work)
        return apply_history_length(task, params)

    @validate_request_params
    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """The caller's tasks, the latest first."""
        validate_history_length(params)
        if params.HasField("page_size"):
            validate_page_size(params.page_size)
        page = await self._store.list(params, context)
        for task in page.tasks:
            task.CopyFrom(apply_history_length(task, params))
            if not params.include_artifacts:
                task.ClearField("artifacts")
        return page

    async def _no_push(self, params: Any, context: ServerCallContext) -> NoReturn:
        del params, context
        raise PushNotificationNotSupportedError

    on_create_task_push_notification_config = _no_push
    on_get_task_push_notification_config = _no_push
    on_list_task_push_notification_configs = _no_push
    on_delete_task_push_notification_config = _no_push

    async def on_get_extended_agent_card(self, params: Any, context: ServerCallContext) -> NoReturn:
        """Refuse: there is no extended card."""
        del params, context
        raise ExtendedAgentCardNotConfiguredError

    async def stop(self, stop_s: float) -> None:
        """Fail the work in flight as retryable; bounded."""
        await self._executions.aclose(stop_s)
        await self._jobs.aclose()


def _message(end: End, context_id: str) -> Message:
    """The end of an execution as a message. Raises its failure as an A2A error."""
    end = sendable(end)
    if end["type"] == ERROR:
        raise to_a2a(end)
    message = Message(
        message_id=uuid.uuid4().hex, context_id=context_id, role=Role.ROLE_AGENT, parts=[Part(text=end["data"])]
    )
    if metadata := end.get("metadata"):
        ParseDict(metadata, message.metadata)
    return message
