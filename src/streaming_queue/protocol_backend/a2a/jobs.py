"""Executions as A2A tasks: they go on after their request; callers can get, follow and cancel them."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing

from a2a.server.context import ServerCallContext
from a2a.types.a2a_pb2 import (
    Artifact,
    Message,
    Part,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from google.protobuf.json_format import ParseDict

from streaming_queue.comm.host.execution import CANCEL_BOUND_S, Execution, Executions
from streaming_queue.messages import DELTA, ERROR, MESSAGE, STATUS, End, Status
from streaming_queue.protocol_backend.a2a.agent_errors import sendable
from streaming_queue.protocol_backend.a2a.dialect import AGENT_ERROR
from streaming_queue.protocol_backend.a2a.task_store import BoundedTaskStore

logger = logging.getLogger(__name__)

Event = Message | Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent


class Job:
    """One task and the execution behind it."""

    def __init__(self, execution: Execution, asked: Message, context_id: str) -> None:
        self.task_id = uuid.uuid4().hex
        self.context_id = context_id
        self._ids = {"task_id": self.task_id, "context_id": context_id}
        self.execution = execution
        self.cancelled = False
        self.keeper: asyncio.Task[None] | None = None
        self._asked = asked
        self._artifact_id = f"{self.task_id}-answer"

    def task(self, end: End | None = None) -> Task:
        """The current task: running, or at its `end` (`sendable`)."""
        task = Task(id=self.task_id, context_id=self.context_id, status=self._status(end), history=[self._asked])
        if end is not None and end["type"] == MESSAGE:
            task.artifacts.append(self._artifact(end["data"]))
            if metadata := end.get("metadata"):
                ParseDict(metadata, task.metadata)
        return task

    def _artifact(self, text: str) -> Artifact:
        return Artifact(artifact_id=self._artifact_id, name="answer", parts=[Part(text=text)])

    def _said(self, text: str, message_id: str) -> Message:
        return Message(message_id=message_id, role=Role.ROLE_AGENT, parts=[Part(text=text)], **self._ids)

    def _status(self, end: End | None) -> TaskStatus:
        status = TaskStatus(state=TaskState.TASK_STATE_WORKING)
        status.timestamp.GetCurrentTime()
        if end is not None and end["type"] == MESSAGE:
            status.state = TaskState.TASK_STATE_COMPLETED
        elif end is not None and self.cancelled:
            status.state = TaskState.TASK_STATE_CANCELED
        elif end is not None:
            status.state = TaskState.TASK_STATE_FAILED
            status.message.CopyFrom(self._said(end["message"], uuid.uuid4().hex))
            ParseDict({AGENT_ERROR: end}, status.message.metadata)
        return status

    def _update(self, event: Status | End) -> TaskStatusUpdateEvent:
        """The end or a status, as an update."""
        end = None if event["type"] == STATUS else event
        update = TaskStatusUpdateEvent(status=self._status(end), **self._ids)
        if event["type"] != ERROR and (metadata := event.get("metadata")):
            ParseDict(metadata, update.metadata)
        return update

    def _word(self, event: Status, number: int) -> TaskStatusUpdateEvent:
        """A status as an update; its id lets a reader skip a repeated one."""
        fit = sendable(event)
        if fit["type"] == ERROR:
            logger.warning("task %s: a status is sent without its metadata: %s", self.task_id, fit["message"])
            fit = {"type": STATUS, "data": event["data"]}
        update = self._update(fit)
        update.status.message.CopyFrom(self._said(event["data"], f"{self.task_id}-{number}"))
        return update

    def _piece(self, text: str, *, append: bool, last: bool = False) -> TaskArtifactUpdateEvent:
        return TaskArtifactUpdateEvent(artifact=self._artifact(text), append=append, last_chunk=last, **self._ids)

    async def events(self) -> AsyncGenerator[Event, None]:
        """The task, then all its events from the beginning, for any number of readers.

        The first piece of the artifact replaces the pieces that a reader may have from an earlier connection.
        """
        yield self.task()
        begun = False
        words = 0
        async with aclosing(self.execution.batches()) as batches:
            async for batch in batches:
                for event in batch:
                    if event["type"] == STATUS:
                        words += 1
                        yield self._word(event, words)
                    elif event["type"] == DELTA:
                        yield self._piece(event["data"], append=begun)
                        begun = True
                    else:
                        # Some clients keep only the chunk marked as last: the whole answer replaces the pieces.
                        end = sendable(event)
                        if end["type"] == MESSAGE:
                            yield self._piece(end["data"], append=False, last=True)
                        yield self._update(end)


class Jobs:
    """The tasks of one hosted agent."""

    def __init__(self, executions: Executions, store: BoundedTaskStore) -> None:
        self._executions = executions
        self._store = store
        self._by_id: dict[str, Job] = {}
        self._by_execution: dict[Execution, Job] = {}

    async def begin(self, execution: Execution, held: ExitStack, asked: Message, context: ServerCallContext) -> Job:
        """Turn the execution into a task, which takes over `held`; an execution with a task keeps that task."""
        job = self._by_execution.get(execution)
        if job is not None:
            held.close()
            return job
        job = Job(execution, asked, asked.context_id)
        self._by_id[job.task_id] = self._by_execution[execution] = job
        job.keeper = asyncio.create_task(self._keep(job, held, context), name=f"task:{job.task_id}")
        await self._store.save(job.task(), context)
        return job

    async def _keep(self, job: Job, held: ExitStack, context: ServerCallContext) -> None:
        """Hold the execution until its end is known, and store the ended task."""
        try:
            with held:
                end = await job.execution.result()
            await self._store.save(job.task(sendable(end)), context)
        finally:
            del self._by_id[job.task_id], self._by_execution[job.execution]

    def find(self, task_id: str, principal: str | None) -> Job | None:
        """The principal's running task with this id."""
        job = self._by_id.get(task_id)
        return job if job is not None and job.execution.context.principal == principal else None

    async def cancel(self, job: Job) -> Task:
        """Cancel a running task; returns the ended task, after one second at most."""
        job.cancelled = True
        await self._executions.discard(job.execution)
        if job.keeper is not None:
            await asyncio.wait({job.keeper}, timeout=CANCEL_BOUND_S)
        return job.task(sendable(await job.execution.result()))

    async def aclose(self) -> None:
        """Wait until the tasks of stopped executions have ended."""
        keepers = [job.keeper for job in self._by_id.values() if job.keeper is not None]
        if keepers:
            await asyncio.wait(keepers, timeout=CANCEL_BOUND_S)
