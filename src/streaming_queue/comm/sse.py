"""Server-sent events (WHATWG HTML, 9.2), as far as agent protocols use them: their data."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import aiohttp

from streaming_queue.comm.http_client import MAX_ANSWER_BYTES
from streaming_queue.errors import ProtocolError

EVENT_STREAM = "text/event-stream"


async def read_events(
    response: aiohttp.ClientResponse, address: str, heard: Callable[[], None], limit: int = MAX_ANSWER_BYTES
) -> AsyncGenerator[bytes, None]:
    """The data of each event until the stream ends; an event cut off at the end is none.

    `heard` is told of all that comes, heartbeats too. Raises ProtocolError when one event grows over `limit` bytes.
    """
    pieces: list[bytes] = []
    data: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        heard()
        size += len(chunk)
        if size > limit:
            response.close()
            raise ProtocolError(f"{address}: an event of the stream is over the limit of {limit} bytes")
        if b"\n" not in chunk:
            pieces.append(chunk)
            continue
        *lines, rest = (b"".join(pieces) + chunk).split(b"\n")
        pieces = [rest]
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line:
                size = len(rest)
                if data:
                    yield b"\n".join(data)
                    data = []
