"""Answers of the contract: a body or lines of events, and a status. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from streaming_queue.comm.client.http import response_error
from streaming_queue.comm.strict_json import read_answer
from streaming_queue.comm.wire_errors import excerpt, parse_retry_after, reported_error
from streaming_queue.errors import ProtocolError, RemoteError, error_from_event
from streaming_queue.messages import ERROR, MESSAGE, End, Reply, StreamEvent, is_event, is_metadata

STATUS_BY_CODE: Mapping[str, int] = {
    "config": 400,
    "unknown_protocol": 400,
    "auth": 401,
    "quota": 402,
    "unreachable": 403,
    "unknown_agent": 404,
    "unknown_run": 404,
    "topology": 409,
    "lease_lost": 409,
    "run_closed": 409,
    "run_cancelled": 409,
    "rate_limited": 429,
    "internal": 500,
    "agent_failed": 500,
    "backend_not_installed": 501,
    "comm": 502,
    "remote": 502,
    "protocol": 502,
    "llm": 502,
    "bad_response": 502,
    "connect": 503,
    "unavailable": 503,
    "backend_closed": 503,
    "queue": 503,
    "queue_full": 503,
    "queue_closed": 503,
    "queue_in_use": 503,
    "queue_stalled": 503,
    "disk_full": 503,
    "timeout": 504,
    "llm_timeout": 504,
}
"""An error's code -> the status, for proxies; our own ends read the body."""


def encode_end(end: End) -> tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]:
    """The status, the body and further headers for an execution's end (RFC 9110, 10.2.3 and 11.6.1).

    Raises TypeError if JSON cannot hold the end.
    """
    if end["type"] == MESSAGE:
        answer: dict[str, Any] = {"text": end["data"]}
        if metadata := end.get("metadata"):
            answer["metadata"] = metadata
        return 200, orjson.dumps(answer), ()
    status, retry_after_s = STATUS_BY_CODE.get(end["code"], 500), end["retry_after_s"]
    headers = [(b"www-authenticate", b"Bearer")] if status == 401 else []
    if isinstance(retry_after_s, int | float) and math.isfinite(retry_after_s):
        headers.append((b"retry-after", b"%d" % math.ceil(max(0.0, retry_after_s))))
    return status, orjson.dumps({"error": end}), tuple(headers)


def encode_event(event: StreamEvent) -> bytes:
    """The line for an event. Raises TypeError if JSON cannot hold the event."""
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def decode_answer(response: aiohttp.ClientResponse, body: bytes, origin: str) -> Reply:
    """The reply in a response's whole body; errors have the prefix `origin`.

    Raises:
        StreamingQueueError: the agent's error, as the same class.
        ProtocolError: it is not an answer of this contract: HTML, garbage, wrong fields, an empty body.
        AuthError, RateLimitedError, RemoteError: the status of another sender, for example a proxy.
    """
    if not 200 <= response.status < 300:
        raise response_error(response, body, origin)
    document = read_answer(body, origin)
    if not isinstance(document, dict):
        what = "a body that is not a JSON object" if body else "an empty body"
        raise ProtocolError(f"{origin}: answered {response.status} with {what}{excerpt(body)}")
    if document.get("error") is not None:
        retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
        raise reported_error(document, retry_after_s, origin) or RemoteError(
            f"{origin}: answered {response.status} with an error{excerpt(body)}", retry_after_s=retry_after_s
        )
    text, metadata = document.get("text"), document.get("metadata")
    if not isinstance(text, str):
        raise ProtocolError(f'{origin}: the answer has no "text"{excerpt(body)}')
    reply = Reply(raw=document, text=text)
    if is_metadata(metadata):
        reply["metadata"] = metadata
    elif metadata is not None:
        raise ProtocolError(f'{origin}: the answer\'s "metadata" is not an object{excerpt(body)}')
    return reply


def decode_event(line: bytes, origin: str) -> StreamEvent:
    """The event in a line of a stream. Raises the error of an error event, ProtocolError if it is not an event."""
    event = read_answer(line, origin)
    if isinstance(event, dict) and event.get("type") == ERROR:
        raise error_from_event(event, origin)
    if not is_event(event):
        raise ProtocolError(f"{origin}: a line of the stream is not an event{excerpt(line)}")
    return event
