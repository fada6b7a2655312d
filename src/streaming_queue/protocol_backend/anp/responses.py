"""A streamed answer as it comes in: server-sent events, read within bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import aiohttp

from streaming_queue.comm.context import heard
from streaming_queue.comm.http_client import MAX_ANSWER_BYTES
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.anp.remote_interface import read_answer
from streaming_queue.protocol_backend.anp.rpc import CallId, decode_event, decode_response


async def read_events(
    response: aiohttp.ClientResponse, call_id: CallId, address: str
) -> AsyncGenerator[StreamEvent, None]:
    """Deltas and statuses as they come, then the answer, the end. Raises like `decode_response`."""
    async for body in _messages(response, address):
        event = decode_event(body, address)
        if event is not None:
            yield event
            continue
        yield message(read_answer(decode_response(body, call_id, address), address))
        return
    raise ProtocolError(f"{address}: the stream ended without an answer")


def message(reply: Reply) -> StreamEvent:
    """The event that is an answer's end."""
    event: StreamEvent = {"type": MESSAGE, "data": reply["text"]}
    if "metadata" in reply:
        event["metadata"] = reply["metadata"]
    return event


async def _messages(response: aiohttp.ClientResponse, address: str) -> AsyncGenerator[bytes, None]:
    """The data of each event (HTML Standard, 9.2.6); what else an event may have is not used."""
    size = 0
    pieces: list[bytes] = []
    data: list[bytes] = []
    while chunk := await response.content.readany():
        heard()
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            response.close()
            raise ProtocolError(f"{address}: the answer is over the limit of {MAX_ANSWER_BYTES} bytes")
        if b"\n" not in chunk:
            pieces.append(chunk)
            continue
        *lines, rest = (b"".join(pieces) + chunk).split(b"\n")
        pieces = [rest]
        for line in (each.removesuffix(b"\r") for each in lines):
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
