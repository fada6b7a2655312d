"""A host's side of a message: run the executor once, whoever comes, goes and comes back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from streaming_queue.comm.context import Executor, RequestContext, annotating, calling
from streaming_queue.errors import AgentFailedError, SendTimeoutError, StreamingQueueError, error_event
from streaming_queue.messages import DELTA, ERROR, MESSAGE, STATUS, StreamEvent

logger = logging.getLogger(__name__)

CANCEL_BOUND_S = 1.0


class Execution:
    """One run of an executor, in a task of its own, and the events it produced. It is the executor's event queue.

    The end is one terminal event: the last message enqueued (else the deltas together), with annotations as its
    metadata, or the failure. Any number of readers may follow from the first event on.
    """

    def __init__(self, executor: Executor, context: RequestContext) -> None:
        self.context = context
        self.readers = 0
        self._executor = executor
        self._events: list[StreamEvent] = []
        self._news = asyncio.Event()
        self._annotations: dict[str, Any] = {}
        self._end: StreamEvent | None = None
        self.task = asyncio.create_task(self._run(), name=f"execute:{context.agent_id}")

    async def enqueue_event(self, event: Any) -> None:
        """Take an event from the executor. Raises AgentFailedError when it is none."""
        kind = event.get("type") if isinstance(event, dict) else None
        if kind not in (DELTA, STATUS, MESSAGE, ERROR):
            raise AgentFailedError(f"the executor enqueued {type(event).__name__} {kind!r}, which is no known event")
        if kind != ERROR and not isinstance(event.get("data"), str):
            raise AgentFailedError(f"the data of an {kind} event must be text, not {type(event.get('data')).__name__}")
        self._events.append(event)
        if kind in (DELTA, STATUS):
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _run(self) -> StreamEvent:
        call = self.context.call_context
        try:
            with calling(call), annotating(self._annotations):
                if call.deadline is None or call.kind == "command":
                    await self._executor.execute(self.context, self)
                else:
                    async with asyncio.timeout(max(0.0, call.deadline - time.monotonic())) as limit:
                        await self._executor.execute(self.context, self)
            end = self._terminal()
        except asyncio.CancelledError:
            self._finish(error_event(AgentFailedError("the request was cancelled")))
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and not isinstance(error, StreamingQueueError):
                expired = call.deadline is not None and call.kind != "command" and limit.expired()
                error = SendTimeoutError("the deadline passed before the answer") if expired else error
            if not isinstance(error, StreamingQueueError):
                logger.exception("agent %s failed", self.context.agent_id)
            end = error_event(error)
        return self._finish(end)

    def _terminal(self) -> StreamEvent:
        for event in reversed(self._events):
            if event["type"] in (MESSAGE, ERROR):
                break
        else:
            deltas = [event["data"] for event in self._events if event["type"] == DELTA]
            if not deltas:
                raise AgentFailedError("the agent finished without an answer")
            event = {"type": MESSAGE, "data": "".join(deltas)}
        if event["type"] == MESSAGE and self._annotations:
            event = {**event, "metadata": {**self._annotations, **(event.get("metadata") or {})}}
        return event

    def _finish(self, end: StreamEvent) -> StreamEvent:
        self._end = end
        self._wake()
        return end

    @property
    def done(self) -> bool:
        """Whether the end is known."""
        return self._end is not None

    async def result(self) -> StreamEvent:
        """The terminal event. Cancelling the wait does not cancel the execution."""
        while self._end is None:
            await self._news.wait()
        return self._end

    async def events(self) -> AsyncIterator[StreamEvent]:
        """Deltas and statuses as they come, from the first, then the terminal event."""
        seen = 0
        while True:
            news = self._news
            while seen < len(self._events):
                event = self._events[seen]
                seen += 1
                if event["type"] in (DELTA, STATUS):
                    yield event
            if self._end is not None:
                yield self._end
                return
            if seen == len(self._events):
                await news.wait()

    async def cancel(self) -> None:
        """Cancel the executor; returns when it is gone, after one second at the most."""
        self.task.cancel()
        await asyncio.wait({self.task}, timeout=CANCEL_BOUND_S)


class Executions:
    """All executions of one hosted agent: found again by idempotency key, cancelled when nobody waits any more."""

    def __init__(self, executor: Executor, *, grace_s: float = 10.0) -> None:
        self._executor = executor
        self._grace_s = grace_s
        self._by_key: dict[str, Execution] = {}
        self._running: set[Execution] = set()
        self._timers: dict[Execution, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """How many are under way or kept for a reader to return."""
        return len(self._running)

    @asynccontextmanager
    async def attach(self, context: RequestContext) -> AsyncIterator[Execution]:
        """The execution for this request: the one under way with the same idempotency key, else a new one.

        Leaving the block before its end starts the grace: if nobody attaches in time, a question is cancelled, a
        command goes on.
        """
        key = context.call_context.idempotency_key
        execution = self._by_key.get(key) if key else None
        if execution is None:
            execution = Execution(self._executor, context)
            self._running.add(execution)
            if key:
                self._by_key[key] = execution
        elif timer := self._timers.pop(execution, None):
            timer.cancel()
        execution.readers += 1
        left_early = True
        try:
            yield execution
            left_early = False
        finally:
            execution.readers -= 1
            if execution.readers == 0:
                if left_early or not execution.done:
                    self._keep(execution)
                else:
                    self._forget(execution)

    def _keep(self, execution: Execution) -> None:
        def expire() -> None:
            self._timers.pop(execution, None)
            if execution.context.call_context.kind != "command":
                execution.task.cancel()
            if execution.task.done():
                self._forget(execution)
            else:
                execution.task.add_done_callback(lambda _: self._forget(execution))

        self._timers[execution] = asyncio.get_running_loop().call_later(self._grace_s, expire)

    def _forget(self, execution: Execution) -> None:
        self._running.discard(execution)
        key = execution.context.call_context.idempotency_key
        if key and self._by_key.get(key) is execution:
            del self._by_key[key]

    async def cancel(self, key: str) -> bool:
        """Cancel the question with this idempotency key, whoever waits; False when there is none or it is a command."""
        execution = self._by_key.get(key)
        if execution is None or execution.context.call_context.kind == "command":
            return False
        await execution.cancel()
        return True

    async def aclose(self, timeout_s: float = CANCEL_BOUND_S) -> None:
        """Cancel everything and wait for it, `timeout_s` at the most."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = {execution.task for execution in self._running}
        self._running.clear()
        self._by_key.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
