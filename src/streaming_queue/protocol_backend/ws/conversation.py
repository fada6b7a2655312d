"""One caller's connection to a hosted agent: its requests in flight, each in its own task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from websockets.exceptions import ConnectionClosed

from streaming_queue.comm.context import RequestContext
from streaming_queue.comm.host.execution import HEARTBEAT_S, Execution, Executions
from streaming_queue.comm.payload import decode_payload, malformed
from streaming_queue.errors import ProtocolError, RateLimitedError, StreamingQueueError, error_event
from streaming_queue.messages import ERROR, MESSAGE, StreamEvent
from streaming_queue.protocol_backend.ws.connection import HostSide
from streaming_queue.protocol_backend.ws.frames import (
    CANCEL,
    PING,
    REQUEST,
    RefusedCallError,
    decode_call,
    encode_event,
    encode_heartbeat,
    encode_pong,
)

logger = logging.getLogger(__name__)


class Conversation:
    """Serves one connection. `request` makes a message's context. The agent works on `limit` messages at a time."""

    def __init__(
        self,
        agent_id: str,
        connection: HostSide,
        executions: Executions,
        request: Callable[..., RequestContext],
        limit: int,
    ) -> None:
        self._agent_id = agent_id
        self._connection = connection
        self._executions = executions
        self._request = request
        self._limit = limit
        self._in_flight: dict[int, Execution | None] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self._helpers: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Read frames until the connection ends. Then the grace of executions without another reader begins."""
        self._start(self._helpers, self._connection.watch())
        self._start(self._helpers, self._heartbeats())
        try:
            while True:
                await self._take(await self._connection.recv())
        except ConnectionClosed:
            pass
        except ProtocolError as error:
            await self._connection.hang_up(1002, str(error))
        finally:
            tasks = self._answers | self._helpers
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _start(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"ws:{self._agent_id}")
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(_retrieve)

    async def _take(self, data: str | bytes) -> None:
        try:
            kind, number, frame = decode_call(data)
        except RefusedCallError as refused:
            await self._end(refused.number, error_event(refused))
            return
        if kind == REQUEST:
            if number in self._in_flight:
                raise malformed(f"request {number} is already in flight")
            try:
                payload = decode_payload(frame)
                if len(self._executions) >= self._limit:
                    raise RateLimitedError("the agent has too many requests in flight", retry_after_s=1.0)
            except StreamingQueueError as error:
                await self._end(number, error_event(error))
                return
            context = self._request(
                payload, principal=self._connection.principal, streaming=frame.get("stream") is True
            )
            self._in_flight[number] = None
            self._start(self._answers, self._answer(number, context))
        elif kind == CANCEL:
            # A cancel is a task, like each request: so it runs after the earlier requests and before the later ones.
            self._start(self._helpers, self._cancel(number))
        elif kind == PING:
            await self._connection.write(encode_pong(number, self._agent_id, ready=self._executions.ready))
        else:
            await self._end(number, error_event(malformed(f"unknown frame type {kind[:50]!r}")))

    async def _answer(self, number: int, context: RequestContext) -> None:
        try:
            with self._executions.attach(context) as execution:
                self._in_flight[number] = execution
                end = await (self._stream(number, execution) if context.streaming else execution.result())
        except StreamingQueueError as error:
            end = error_event(error)
        finally:
            del self._in_flight[number]
        await self._end(number, end)

    async def _stream(self, number: int, execution: Execution) -> StreamEvent:
        """Send the events before the end, and return the end."""
        async with aclosing(execution.batches()) as batches:
            async for batch in batches:
                for event in batch:
                    if event["type"] in (MESSAGE, ERROR):
                        return event
                    await self._connection.write(encode_event(number, event))
        raise ProtocolError("the agent's events ended without an answer")

    async def _end(self, number: int, end: StreamEvent) -> None:
        try:
            data = encode_event(number, end)
        except StreamingQueueError as error:
            data = encode_event(number, error_event(error))
        await self._connection.write(data)

    async def _cancel(self, number: int) -> None:
        execution = self._in_flight.get(number)
        if execution is not None and not execution.is_command:
            await self._executions.discard(execution)

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self._in_flight:
                await self._connection.write(encode_heartbeat(self._in_flight))

    async def close(self) -> None:
        """Send the known answers, then close the connection as going away."""
        if self._answers:
            await asyncio.wait(self._answers)
        await self._connection.hang_up(1001, "the agent was stopped")


def _retrieve(task: asyncio.Task[None]) -> None:
    """Log the failure of a task, unless its connection has ended."""
    if not task.cancelled() and (error := task.exception()) and not isinstance(error, ConnectionClosed):
        logger.error("%s failed", task.get_name(), exc_info=error)
