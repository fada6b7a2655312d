"""Answers to HTTP requests: JSON at once, late JSON after a heartbeat, or a stream of events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TypeVar

from starlette.types import Message, Send

from streaming_queue.comm.host.execution import HEARTBEAT_S, Execution
from streaming_queue.errors import AgentFailedError, FailureEvent, error_event
from streaming_queue.messages import ERROR, MESSAGE, End, StreamEvent

T = TypeVar("T")
E = TypeVar("E", End, StreamEvent)
Header = tuple[bytes, bytes]
Answer = tuple[int, bytes, tuple[Header, ...]]
"""A status, a body of JSON, and further headers (lower case, latin-1)."""

EVENT_STREAM = b"text/event-stream"
SSE_HEARTBEAT = b":\n\n"
"""A comment (WHATWG HTML, 9.2)."""

_JSON: Header = (b"content-type", b"application/json")
_UNBUFFERED: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))
_WHITE_SPACE = {"type": "http.response.body", "body": b"\n", "more_body": True}
"""White space before JSON means nothing (RFC 8259, 2)."""


async def send_json(send: Send, status: int, body: bytes, *headers: Header) -> None:
    """Answer with a whole body of JSON."""
    await send(_head(status, _JSON, (b"content-length", b"%d" % len(body)), *headers))
    await send({"type": "http.response.body", "body": body})


async def send_end(send: Send, execution: Execution, encode: Callable[[End], Answer], *headers: Header) -> None:
    """Answer with the end of `execution`, written by `encode`; every answer has `headers`.

    If the end is not known after `HEARTBEAT_S`, the answer begins with status 200 and `headers`. Then only the body
    shows how the execution ended, and white space before the body shows that the work goes on. If `encode` raises
    TypeError, JSON cannot hold the end: the answer is that failure.
    """
    end = await execution.ended_within(HEARTBEAT_S)
    if end is not None:
        status, body, more = encode_or_fail(encode, end)
        await send_json(send, status, body, *headers, *more)
        return
    await send(_head(200, _JSON, *headers))
    while end is None:
        await send(_WHITE_SPACE)
        end = await execution.ended_within(HEARTBEAT_S)
    await send({"type": "http.response.body", "body": encode_or_fail(encode, end)[1]})


async def send_stream(
    send: Send,
    execution: Execution,
    encode: Callable[[StreamEvent], bytes],
    *headers: Header,
    media_type: bytes = EVENT_STREAM,
    heartbeat: bytes = SSE_HEARTBEAT,
    opening: bytes = b"",
) -> None:
    """Answer with `opening` and the events of `execution`, written by `encode`; send a heartbeat each `HEARTBEAT_S`.

    If `encode` raises TypeError, JSON cannot hold the event: the stream ends with that failure.
    """
    await send(_head(200, (b"content-type", media_type), *_UNBUFFERED, *headers))
    if opening:
        await send({"type": "http.response.body", "body": opening, "more_body": True})
    async with aclosing(execution.batches(HEARTBEAT_S)) as batches:
        async for batch in batches:
            pieces, more = [], True
            for event in batch:
                try:
                    pieces.append(encode(event))
                    more = event["type"] not in (MESSAGE, ERROR)
                except TypeError as error:
                    pieces.append(encode(unfit(error)))
                    more = False
                    break
            await send({"type": "http.response.body", "body": b"".join(pieces) or heartbeat, "more_body": more})
            if not more:
                return


def encode_or_fail(encode: Callable[[E], T], event: E) -> T:
    """The event as `encode` writes it; if JSON cannot hold the event (TypeError), this failure instead."""
    try:
        return encode(event)
    except TypeError as error:
        return encode(unfit(error))


def unfit(error: TypeError) -> FailureEvent:
    """The failure that JSON cannot hold an event."""
    return error_event(AgentFailedError(f"the agent's answer cannot be sent as JSON: {error}"))


def _head(status: int, *headers: Header) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}
