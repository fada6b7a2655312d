"""Answers that are not what the agent said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from streaming_queue.comm.answer_limit import MAX_ANSWER_BYTES
from streaming_queue.errors import ConfigError, ConnectError, StreamingQueueError
from streaming_queue.messages import DELTA, ERROR, MESSAGE
from streaming_queue.protocol_backend.http.comm import HttpCommBackend
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class AltersText(InprocCommBackend):
    """Tidies the text up, as a template engine would."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        reply = await super().send(src_id, dst_id, payload)
        return {**reply, "text": reply["text"].strip()}


class CutsLongQuestions(InprocCommBackend):
    """Takes so much of a question as a small buffer holds."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        if "text" in payload:
            payload = {**payload, "text": payload["text"][:600_000]}
        return await super().send(src_id, dst_id, payload)


class SwapsAnswers(InprocCommBackend):
    """Gives the answers of messages that are under way at once to whoever comes first."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.answers: list[Any] = []

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        self.answers.append(await super().send(src_id, dst_id, payload))
        await asyncio.sleep(0)
        return self.answers.pop()


class AnswersWithErrors(InprocCommBackend):
    """Returns an error's text as if the agent had said it."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        try:
            return await super().send(src_id, dst_id, payload)
        except StreamingQueueError as error:
            return {"raw": None, "text": f"Error: {error}"}


class TakesHalfForTheWhole(HttpCommBackend):
    """Ends a stream that broke with what came so far."""

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[Any]:
        so_far = ""
        try:
            async for event in super().stream(src_id, dst_id, payload):
                so_far += event["data"] if event["type"] == DELTA else ""
                yield event
        except ConnectError as error:
            if "broke" not in str(error):
                raise
            yield {"type": MESSAGE, "data": so_far}


class _Between(InprocCommBackend):
    """Passes what an executor enqueues through `taken`."""

    def taken(self, event: Any) -> Any:
        raise NotImplementedError

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> Any:
        taken = self.taken

        class Queue:
            def __init__(self, queue: Any) -> None:
                self.queue = queue

            async def enqueue_event(self, event: Any) -> None:
                await self.queue.enqueue_event(taken(event))

        class Passing:
            async def execute(self, context: Any, event_queue: Any) -> None:
                await executor.execute(context, Queue(event_queue))

        return await super().spawn_local_agent(agent_id, host, port, Passing())


class CutsLongAnswers(_Between):
    """Ends an answer where it gets too long, as if the agent had said no more."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.left = MAX_ANSWER_BYTES

    def taken(self, event: Any) -> Any:
        if len(event.get("data", "")) < 1024 * 1024 or event["type"] not in (DELTA, MESSAGE):
            return event
        told = event["data"][: self.left]
        self.left -= len(told) if event["type"] == DELTA else 0
        return {**event, "data": told}


class WantsWholeErrors(_Between):
    """Reads members of an error event that need not be there."""

    def taken(self, event: Any) -> Any:
        if event["type"] != ERROR or {"code", "message"} <= event.keys():
            return event
        raise ConfigError("an error event has a code and a message")


class TakesAnyNumberOfValues(HttpCommBackend):
    """Leaves out what is too much, and asks without."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        metadata = payload.get("metadata") or {}
        few = {key: value for key, value in metadata.items() if not isinstance(value, list)}
        return await super().send(src_id, dst_id, {**payload, "metadata": few} if few else {**payload, "metadata": {}})
