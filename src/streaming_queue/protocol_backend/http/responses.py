"""Responses as they come in: read within bounds, their failures turned into our errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import aiohttp

from streaming_queue.errors import CommError, ConnectError, ProtocolError, SendTimeoutError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.http.answers import decode_answer, decode_event
from streaming_queue.protocol_backend.http.codec import NDJSON

CONNECT_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024

BROKEN = (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, OSError)
"""What the library raises when a connection breaks before the whole answer."""
NOT_BEGUN = (aiohttp.ClientConnectorError, TimeoutError)
"""Those of them where there was no connection, or where another would be no faster."""


def translate(error: Exception, address: str) -> CommError:
    """What the library raised, as one of ours, most specific first."""
    reason = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return ConnectError(f"{address}: no trust in its TLS: {reason}; check the agent's tls option", retryable=False)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectError(f"{address}: no connection within {CONNECT_TIMEOUT_S:g} s")
    if isinstance(error, TimeoutError):
        return SendTimeoutError(f"{address}: the connection timed out: {reason}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectError(f"{address}: cannot connect: {reason}")
    if isinstance(error, BROKEN):
        return ConnectError(f"{address}: the connection broke before the answer: {reason}")
    return ProtocolError(f"{address}: what came back is no HTTP: {reason}")


async def read_body(response: aiohttp.ClientResponse, address: str, limit: int = MAX_ANSWER_BYTES) -> bytes:
    """The body, unless it is over `limit`: then reading stops. Raises ProtocolError."""
    length = response.content_length
    if length is not None and length <= limit:
        return await response.read()
    chunks, size = [], length or 0
    while size <= limit and (chunk := await response.content.readany()):
        chunks.append(chunk)
        size += len(chunk)
    if size > limit:
        response.close()
        raise ProtocolError(f"{address}: the answer is over the limit of {limit} bytes")
    return b"".join(chunks)


async def read_answer(response: aiohttp.ClientResponse, address: str) -> Reply:
    """The reply in a response. Raises like `decode_answer`."""
    body = await read_body(response, address)
    return decode_answer(response.status, body, response.headers.get("Retry-After"), address)


async def read_events(response: aiohttp.ClientResponse, address: str) -> AsyncGenerator[StreamEvent, None]:
    """The events of a streamed answer, or of a whole one from an agent that does not stream."""
    if response.status != 200 or response.content_type != NDJSON:
        reply = await read_answer(response, address)
        event: StreamEvent = {"type": MESSAGE, "data": reply["text"]}
        if "metadata" in reply:
            event["metadata"] = reply["metadata"]
        yield event
        return
    size = 0
    pieces: list[bytes] = []
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            response.close()
            raise ProtocolError(f"{address}: the answer is over the limit of {MAX_ANSWER_BYTES} bytes")
        if b"\n" not in chunk:
            pieces.append(chunk)
            continue
        *lines, rest = (b"".join(pieces) + chunk).split(b"\n")
        pieces = [rest]
        for line in lines:
            if line.strip():
                event = decode_event(line, address)
                yield event
                if event["type"] == MESSAGE:
                    return
    raise ProtocolError(f"{address}: the stream ended without an answer")
