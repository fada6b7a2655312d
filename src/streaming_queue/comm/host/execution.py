"""A host's side of a message: the executor runs once, although callers leave and come back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, cast

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.context import Executor, RequestContext, annotating, calling
from streaming_queue.comm.host.idempotency_cache import IdempotencyCache, Key, Repeat
from streaming_queue.errors import (
    AgentFailedError,
    ConnectError,
    ProtocolError,
    SendTimeoutError,
    StreamingQueueError,
    UnavailableError,
    error_event,
    whole_error_event,
)
from streaming_queue.messages import DELTA, ERROR, MESSAGE, STATUS, End, ReplyMetadata, StreamEvent

logger = logging.getLogger(__name__)

CANCEL_BOUND_S = 1.0
HEARTBEAT_S = 15.0
"""A host shows its caller at least this often, in seconds, that the work goes on."""


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Execution:
    """One run of an executor in its own task, with the events of the run. It is the executor's event queue.

    The end is one terminal event: the last message (else the deltas together) with the annotations as its metadata,
    or the failure. Any number of readers may follow from the first event on.
    """

    def __init__(self, executor: Executor, context: RequestContext) -> None:
        self.context = context
        self.identity: Key = (context.principal, context.call_context.idempotency_key)
        self.readers = 0
        self.grace: asyncio.TimerHandle | None = None
        self._executor = executor
        self._events: list[StreamEvent] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._annotations: dict[str, Any] = {}
        self._meter = AnswerMeter()
        self._end: End | None = None
        self.task = asyncio.create_task(self._run(), name=f"execute:{context.agent_id}")

    async def enqueue_event(self, event: Any) -> None:
        """Take an event from the executor, and complete an `agent_error`.

        Raises:
            AgentFailedError: it is not an event.
            ProtocolError: the answer is over the limit (`comm.answer_limit`); the execution ends with this error.
        """
        kind = event.get("type") if isinstance(event, dict) else None
        if kind not in (DELTA, STATUS, MESSAGE, ERROR):
            raise AgentFailedError(f"the executor enqueued {type(event).__name__} {kind!r}, which is no known event")
        if kind != ERROR and not isinstance(event.get("data"), str):
            raise AgentFailedError(f"the data of an {kind} event must be text, not {type(event.get('data')).__name__}")
        if kind == ERROR:
            event = whole_error_event(event)
        try:
            self._meter.take(event)
        except ProtocolError as error:
            self.stop(error)
            raise
        self._events.append(event)
        if kind in (DELTA, STATUS):
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _resolve(waiter)

    async def _run(self) -> None:
        call = self.context.call_context
        try:
            with calling(call), annotating(self._annotations):
                if call.deadline is None or call.kind == "command":
                    await self._executor.execute(self.context, self)
                else:
                    async with asyncio.timeout(max(0.0, call.deadline - time.monotonic())) as limit:
                        await self._executor.execute(self.context, self)
            self._finish(self._terminal())
        except asyncio.CancelledError:
            self._finish(error_event(AgentFailedError("the agent's work was cancelled")))
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and not isinstance(error, StreamingQueueError):
                expired = call.deadline is not None and call.kind != "command" and limit.expired()
                error = SendTimeoutError("the deadline passed before the answer") if expired else error
            if not isinstance(error, StreamingQueueError):
                logger.exception("agent %s failed", self.context.agent_id)
            self._finish(error_event(error))

    def _terminal(self) -> End:
        backwards: Iterator[StreamEvent] = reversed(self._events)
        for event in backwards:
            if event["type"] == ERROR:
                return event
            if event["type"] == MESSAGE:
                end = event
                break
        else:
            deltas = [event["data"] for event in self._events if event["type"] == DELTA]
            if not deltas:
                raise AgentFailedError("the agent finished without an answer")
            end = {"type": MESSAGE, "data": "".join(deltas)}
        if self._annotations:
            metadata = cast("ReplyMetadata", {**self._annotations, **(end.get("metadata") or {})})
            end = {**end, "metadata": metadata}
        return end

    def _finish(self, end: End) -> None:
        if self._end is None:
            self._end = end
            self._wake()

    @property
    def done(self) -> bool:
        """Whether the end is known."""
        return self._end is not None

    @property
    def is_command(self) -> bool:
        """Whether the message is a command: a command goes on when its caller leaves."""
        return self.context.call_context.kind == "command"

    @property
    def end(self) -> End | None:
        """The terminal event, None before it is known."""
        return self._end

    @property
    def events_so_far(self) -> list[StreamEvent]:
        """The events of a reader so far: deltas and statuses, and the terminal event if it is known."""
        events: list[StreamEvent] = [event for event in self._events if event["type"] in (DELTA, STATUS)]
        return events if self._end is None else [*events, self._end]

    async def result(self) -> End:
        """The terminal event. Cancelling the wait does not cancel the execution."""
        while self._end is None:
            await self._wait(None)
        return self._end

    async def ended_within(self, seconds: float) -> End | None:
        """The terminal event; None if it is not known after `seconds`: then a heartbeat is due."""
        until = time.monotonic() + seconds
        while self._end is None and (left_s := until - time.monotonic()) > 0:
            await self._wait(left_s)
        return self._end

    async def _wait(self, seconds: float | None) -> None:
        """Wait for an event, `seconds` at most."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters.append(waiter)
        timer = None if seconds is None else loop.call_later(seconds, _resolve, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """All deltas and statuses from the start, then the terminal event."""
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def batches(self, heartbeat_s: float | None = None) -> AsyncGenerator[list[StreamEvent], None]:
        """Like `events`, all new events at a time; an empty list after each `heartbeat_s` of silence."""
        seen = 0
        while True:
            batch: list[StreamEvent] = [event for event in self._events[seen:] if event["type"] in (DELTA, STATUS)]
            seen = len(self._events)
            if self._end is not None:
                yield [*batch, self._end]
                return
            if batch:
                yield batch
                continue
            await self._wait(heartbeat_s)
            if self._end is None and seen == len(self._events):
                yield []

    def stop(self, reason: StreamingQueueError) -> None:
        """Cancel the executor; readers get `reason` at once, even if the executor does not end."""
        self._finish(error_event(reason))
        self.task.cancel()

    async def cancel(self) -> None:
        """Cancel the executor; returns when it has ended, after one second at most."""
        self.stop(AgentFailedError("the request was cancelled"))
        await asyncio.wait({self.task}, timeout=CANCEL_BOUND_S)


class Executions:
    """All executions of one hosted agent: a caller finds them by idempotency key; without a caller they are cancelled.

    A key belongs to its principal: the equal key of another principal is another execution. The answer to a question
    with a key is kept for a while, for a caller that lost the reply.
    """

    def __init__(self, executor: Executor, *, grace_s: float = 600.0) -> None:
        self._executor = executor
        self._grace_s = grace_s
        self._by_identity: dict[Key, Execution] = {}
        self._running: set[Execution] = set()
        self._answers = IdempotencyCache()
        self._draining = False
        self._closed = False

    def __len__(self) -> int:
        """How many executions are in flight."""
        return len(self._running)

    @property
    def ready(self) -> bool:
        """Whether the agent takes questions: it does not drain, is not closed, and its executor is `ready`."""
        return not (self._draining or self._closed) and bool(getattr(self._executor, "ready", True))

    @contextmanager
    def attach(self, context: RequestContext) -> Iterator[Execution]:
        """The execution for this request: the one in flight with the same idempotency key, else a new one.

        A key whose answer is kept gets that answer. When the last caller leaves before the end, the grace begins: if
        no caller attaches in time, a question is cancelled and a command goes on. Without a key no caller can come
        back, and there is no grace.

        Raises:
            ProtocolError: the key is in use for another text; not retryable.
            UnavailableError: the agent was stopped, or drains and this is a new question.
        """
        execution = self._find(context) or self._start(context)
        _end_grace(execution)
        execution.readers += 1
        try:
            yield execution
        finally:
            execution.readers -= 1
            self._left(execution)

    def _find(self, context: RequestContext) -> Execution | None:
        if self._closed:
            raise UnavailableError(f"agent {context.agent_id!r} was stopped")
        key = context.call_context.idempotency_key
        execution = self._by_identity.get((context.principal, key)) if key else None
        if execution is not None:
            _same_question(key, execution.context.get_user_input(), context)
        return execution

    def _start(self, context: RequestContext) -> Execution:
        key = context.call_context.idempotency_key
        executor = self._executor
        if kept := self._answers.get((context.principal, key)) if key else None:
            question, end = kept
            _same_question(key, question, context)
            executor = Repeat(end)
        elif self._draining and context.call_context.kind != "command":
            raise UnavailableError(f"agent {context.agent_id!r} drains and takes no new questions")
        execution = Execution(executor, context)
        self._running.add(execution)
        if context.call_context.idempotency_key:
            self._by_identity[execution.identity] = execution
        return execution

    def _left(self, execution: Execution) -> None:
        if execution.readers or execution not in self._running:
            return
        if execution.done:
            self._forget(execution)
        elif execution.is_command:
            execution.task.add_done_callback(lambda _: self._left(execution))
        elif self._by_identity.get(execution.identity) is execution:
            _end_grace(execution)
            execution.grace = asyncio.get_running_loop().call_later(self._grace_s, self._expire, execution)
            execution.task.add_done_callback(lambda _: self._left(execution))
        else:
            self._expire(execution)

    def _expire(self, execution: Execution) -> None:
        if not execution.done:
            execution.stop(AgentFailedError("the request was cancelled: its caller disconnected"))
        self._forget(execution)

    def _forget(self, execution: Execution) -> None:
        self._free_key(execution)
        end = execution.end
        if end is not None and end["type"] == MESSAGE and execution.identity[1]:
            self._answers.keep(execution.identity, execution.context.get_user_input(), end)
        if execution.done and not execution.task.done():
            execution.task.add_done_callback(lambda _: self._running.discard(execution))
        else:
            self._running.discard(execution)

    def _free_key(self, execution: Execution) -> None:
        """Let the next caller with this key start a new execution, even if a cancelled executor has not ended."""
        _end_grace(execution)
        if self._by_identity.get(execution.identity) is execution:
            del self._by_identity[execution.identity]

    async def cancel(self, key: str, *, principal: str | None = None) -> bool:
        """Cancel the question with this idempotency key; False if there is none, or it is a command."""
        execution = self._by_identity.get((principal, key))
        if execution is None or execution.done or execution.is_command:
            return False
        await self.discard(execution)
        return True

    async def discard(self, execution: Execution) -> None:
        """Cancel this execution and free its key; returns when the executor has ended, after one second at most."""
        self._free_key(execution)
        await execution.cancel()
        self._forget(execution)

    async def drain(self, timeout_s: float) -> None:
        """Refuse new questions and wait for those in flight, `timeout_s` at most; commands still work."""
        self._draining = True
        if in_flight := {execution.task for execution in self._running if not execution.done}:
            await asyncio.wait(in_flight, timeout=timeout_s)

    async def aclose(self, timeout_s: float = CANCEL_BOUND_S) -> None:
        """Cancel all executions, commands too, and wait for them, `timeout_s` at most; refuse later messages."""
        self._closed = True
        self._by_identity.clear()
        self._answers.clear()
        running = list(self._running)
        for execution in running:
            _end_grace(execution)
            execution.stop(ConnectError(f"agent {execution.context.agent_id!r} was stopped before it answered"))
        if running:
            _, hung = await asyncio.wait({execution.task for execution in running}, timeout=timeout_s)
            for task in hung:
                logger.warning("%s does not end when it is cancelled", task.get_name())
        self._running.clear()


def _end_grace(execution: Execution) -> None:
    if execution.grace is not None:
        execution.grace.cancel()
        execution.grace = None


def _same_question(key: str | None, question: str, context: RequestContext) -> None:
    if question != context.get_user_input():
        reason = f"idempotency key {key!r} is in use for another text: a key belongs to one question"
        raise ProtocolError(reason, retryable=False)
