"""Answers that are not what the agent said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from streaming_queue.errors import ConnectError, StreamingQueueError
from streaming_queue.messages import DELTA, MESSAGE
from streaming_queue.protocol_backend.http.comm import HttpCommBackend
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class AltersText(InprocCommBackend):
    """Tidies the text up, as a template engine would."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        reply = await super().send(src_id, dst_id, payload)
        return {**reply, "text": reply["text"].strip()}


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
