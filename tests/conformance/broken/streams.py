"""Streams that are no streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from streaming_queue.comm.answer_limit import MAX_ANSWER_BYTES
from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import DELTA, MESSAGE
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class StreamsOutOfOrder(InprocCommBackend):
    """Swaps each two pieces that follow each other."""

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[Any]:
        held = None
        async for event in super().stream(src_id, dst_id, payload):
            if event["type"] == DELTA and held is None and "," in event["data"]:
                held = event
                continue
            yield event
            if held is not None:
                yield held
                held = None


class EndsTwice(InprocCommBackend):
    """Says the whole answer again."""

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[Any]:
        pieces = 0
        async for event in super().stream(src_id, dst_id, payload):
            pieces += event["type"] == DELTA
            yield event
            if event["type"] == MESSAGE and pieces:
                yield event


class ClaimsToStream(InprocCommBackend):
    """Claims `streaming`, and has the base's `stream`: one send."""

    stream = BaseCommBackend.stream


class HoldsPiecesBack(InprocCommBackend):
    """Collects the pieces and sends them when the answer is whole."""

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[Any]:
        for event in [event async for event in super().stream(src_id, dst_id, payload)]:
            yield event


class CountsTheEndToo(InprocCommBackend):
    """Adds the whole answer to the pieces that it was told in, and gives up at 16 MiB."""

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[Any]:
        size = 0
        async for event in super().stream(src_id, dst_id, payload):
            size += len(event["data"])
            if size > MAX_ANSWER_BYTES:
                raise ProtocolError("the answer is over the limit")
            yield event
