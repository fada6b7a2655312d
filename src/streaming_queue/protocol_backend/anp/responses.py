"""A streamed answer as it comes in: server-sent events, read within bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import aiohttp

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.client import lines
from streaming_queue.comm.context import heard
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.anp.remote_interface import read_answer
from streaming_queue.protocol_backend.anp.rpc import CallId, decode_event, decode_response


async def read_events(
    response: aiohttp.ClientResponse, call_id: CallId, address: str
) -> AsyncGenerator[StreamEvent, None]:
    """Deltas and statuses as they come, then the answer, the end. Raises like `decode_response`."""
    meter = AnswerMeter(address)
    async with aclosing(lines.read_events(response, address, heard)) as bodies:
        async for body in bodies:
            event = decode_event(body, address)
            if event is None:
                yield message(read_answer(decode_response(body, call_id, address), address))
                return
            meter.take(event)
            yield event
    raise ProtocolError(f"{address}: the stream ended without an answer")


def message(reply: Reply) -> StreamEvent:
    """The event that is an answer's end."""
    event: StreamEvent = {"type": MESSAGE, "data": reply["text"]}
    if "metadata" in reply:
        event["metadata"] = reply["metadata"]
    return event
