"""Responses as they come in: read within bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import aiohttp

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.client.http import read_body
from streaming_queue.comm.client.lines import read_lines
from streaming_queue.comm.context import heard
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.http.answers import decode_answer, decode_event
from streaming_queue.protocol_backend.http.codec import NDJSON


async def read_answer(response: aiohttp.ClientResponse, address: str) -> Reply:
    """The reply in a response. Raises like `decode_answer`."""
    body = await read_body(response, address)
    reply = decode_answer(response.status, body, response.headers.get("Retry-After"), address)
    AnswerMeter(address).whole(reply["text"])
    return reply


async def read_events(response: aiohttp.ClientResponse, address: str) -> AsyncGenerator[StreamEvent, None]:
    """The events of a streamed answer, or of a whole one from an agent that does not stream."""
    if response.status != 200 or response.content_type != NDJSON:
        reply = await read_answer(response, address)
        event: StreamEvent = {"type": MESSAGE, "data": reply["text"]}
        if "metadata" in reply:
            event["metadata"] = reply["metadata"]
        yield event
        return
    meter = AnswerMeter(address)
    async with aclosing(read_lines(response, address, heard)) as batches:
        async for lines in batches:
            for line in lines:
                if line.strip():
                    event = decode_event(line, address)
                    meter.take(event)
                    yield event
                    if event["type"] == MESSAGE:
                        return
    raise ProtocolError(f"{address}: the stream ended without an answer")
