"""Streams of lines (NDJSON), and the data of server-sent events (WHATWG HTML, 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any

import aiohttp

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES, over_limit
from streaming_queue.comm.context import heard
from streaming_queue.errors import CommError, ProtocolError

EVENT_STREAM = "text/event-stream"
READ_OUT_S = 0.1


async def read_lines(
    response: aiohttp.ClientResponse, address: str, heard: Callable[[], None] = heard
) -> AsyncGenerator[list[bytes], None]:
    """The complete lines of a stream, several at a time; drop a line that is cut off at the end.

    Each chunk calls `heard`, heartbeats too. Raises ProtocolError if one line is over the limit of an event.
    """
    pieces: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        heard()
        if b"\n" in chunk:
            *lines, rest = (b"".join(pieces) + chunk).split(b"\n")
            pieces, size = [rest], len(rest)
            yield lines
        else:
            pieces.append(chunk)
            size += len(chunk)
            if size > MAX_EVENT_BYTES:
                raise _too_large(response, address)


async def read_events(
    response: aiohttp.ClientResponse, address: str, heard: Callable[[], None] = heard
) -> AsyncGenerator[bytes, None]:
    """The data of each event; drop an event that is cut off at the end. Raises like `read_lines`."""
    data: list[bytes] = []
    size = 0
    async with aclosing(read_lines(response, address, heard)) as batches:
        async for lines in batches:
            for raw in lines:
                line = raw.removesuffix(b"\r")
                if line.startswith(b"data:"):
                    data.append(line[5:].removeprefix(b" "))
                    size += len(line)
                    if size > MAX_EVENT_BYTES:
                        raise _too_large(response, address)
                elif not line and data:
                    yield b"\n".join(data)
                    data, size = [], 0


async def read_out(rest: AsyncGenerator[Any, None]) -> None:
    """Read a stream to its end after its last event, so that its connection can be used again; within `READ_OUT_S`."""
    with suppress(CommError, TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(READ_OUT_S):
            async for _ in rest:
                pass


def _too_large(response: aiohttp.ClientResponse, address: str) -> ProtocolError:
    response.close()
    return over_limit(address, "an event of the stream", MAX_EVENT_BYTES)
