"""A question and its answer in MCP: a tool's arguments, its result, and the `_meta` of both. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from streaming_queue.comm import jsonrpc
from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.errors import (
    AgentFailedError,
    ConfigError,
    ProtocolError,
    StreamingQueueError,
    error_from_event,
)
from streaming_queue.messages import ERROR, MESSAGE, STATUS, End, Reply, TextEvent, is_event, is_metadata, payload_text
from streaming_queue.protocol_backend.mcp.dialect import (
    CONTEXT_KEY,
    ERROR_KEY,
    EVENT_KEY,
    HEADER_MISMATCH,
    METADATA_KEY,
    TRACEPARENT,
    UNSUPPORTED_VERSION,
)

VERDICTS: jsonrpc.Verdicts = jsonrpc.VERDICTS | {
    HEADER_MISMATCH: (ProtocolError, False),
    -32021: (ProtocolError, True),  # the client lacks a capability
    UNSUPPORTED_VERSION: (ProtocolError, True),
    -32042: (AgentFailedError, True),  # a user must visit a URL first
    -32800: (AgentFailedError, True),  # the server cancelled the request
}
"""MCP's codes (basic/index, "Error Codes") -> the class, and whether another server may succeed."""


def read_error(error: Any, origin: str) -> StreamingQueueError:
    """The error for a response's error object."""
    data = error.get("data") if isinstance(error, dict) else None
    if isinstance(data, dict) and isinstance(data.get("supported"), list):
        known = ", ".join(ascii(version)[:40] for version in data["supported"][:10])
        error = {**error, "message": f"{error.get('message')}; it supports {known}"}
    return jsonrpc.failure_of(error, origin, "MCP", VERDICTS)


def read_result(response: jsonrpc.Message, call_id: int, origin: str) -> Mapping[str, Any]:
    """The result in a response. Raises like `jsonrpc.result_of`, and ProtocolError if the result is not an object."""
    result = jsonrpc.result_of(response, call_id, origin, read_error)
    if not isinstance(result, dict):
        raise ProtocolError(f"{origin}: the result is not an object: {str(result)[:120]!a}")
    return result


def question_text(payload: Mapping[str, Any]) -> str:
    """The text of the question. Raises ConfigError if the payload has no text, or other parts than text."""
    parts = payload.get("parts", ())
    if "text" not in payload and ("parts" not in payload or any(part.get("kind", "text") != "text" for part in parts)):
        raise ConfigError('a payload for mcp needs "text", or "parts" that are text: a tool takes a string')
    return payload_text(payload)


def write_context(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The `_meta` of a call."""
    rest = dict(metadata)
    meta: dict[str, Any] = {}
    if isinstance(rest.get(TRACEPARENT), str):
        meta[TRACEPARENT] = rest.pop(TRACEPARENT)
    if rest:
        meta[CONTEXT_KEY] = rest
    return meta


def read_context(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata in a call's `_meta`."""
    context = meta.get(CONTEXT_KEY)
    metadata = dict(context) if isinstance(context, dict) else {}
    if isinstance(meta.get(TRACEPARENT), str):
        metadata[TRACEPARENT] = meta[TRACEPARENT]
    return metadata


def write_end(end: End) -> dict[str, Any]:
    """The tool's result for an execution's end: the answer, or `isError` with the failure's text and event."""
    if end["type"] == MESSAGE:
        result: dict[str, Any] = {"content": [{"type": "text", "text": end["data"]}], "isError": False}
        if metadata := end.get("metadata"):
            result["_meta"] = {METADATA_KEY: metadata}
        return result
    text = {"type": "text", "text": end["message"]}
    return {"content": [text], "isError": True, "_meta": {ERROR_KEY: end}}


def read_end(result: Mapping[str, Any], origin: str) -> Reply:
    """The answer in a tool's result: its texts, joined by newlines. `raw` is the whole result.

    Raises:
        StreamingQueueError: the error of our host's agent, as the same class.
        AgentFailedError: the tool failed, or asks for further input.
        ProtocolError: the result has no text, or the text is too long.
    """
    meta = result.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    kind = result.get("resultType", "complete")
    if kind == "input_required":
        raise AgentFailedError(f"{origin}: the tool asks for further input, which a question cannot give")
    content = result.get("content")
    if kind != "complete" or not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise ProtocolError(f"{origin}: the result is not the result of a tool: {str(result)[:120]!a}")
    texts = [block["text"] for block in content if block.get("type") == "text" and isinstance(block.get("text"), str)]
    if result.get("isError"):
        raise _failure(meta.get(ERROR_KEY), texts, origin)
    if not texts:
        held = ", ".join(sorted({str(block.get("type"))[:20] for block in content})) or "nothing"
        held += " and structured content" if result.get("structuredContent") is not None else ""
        raise ProtocolError(f"{origin}: the result has no text; it has {held!a}")
    reply = Reply(raw=result, text="\n".join(texts))
    AnswerMeter(origin).whole(reply["text"])
    metadata = meta.get(METADATA_KEY)
    if is_metadata(metadata):
        reply["metadata"] = metadata
    return reply


def _failure(event: Any, texts: list[str], origin: str) -> StreamingQueueError:
    if isinstance(event, dict) and event.get("type") == ERROR:
        return error_from_event(event, origin)
    said = "\n".join(texts)[:300]
    return AgentFailedError(f"{origin}: the tool failed" + (f": {said!a}" if said else ""))


def write_progress(event: TextEvent, token: str | int, count: int) -> dict[str, Any]:
    """The params of a progress notification for the `count`th delta or status."""
    meta: dict[str, Any] = {EVENT_KEY: event["type"]}
    if metadata := event.get("metadata"):
        meta[METADATA_KEY] = metadata
    return {"progressToken": token, "progress": count, "message": event["data"], "_meta": meta}


def read_progress(params: Any, token: int) -> TextEvent | None:
    """The event in a progress notification: the event of one of our hosts, else a status with figures.

    None if it belongs to another request, or is not valid.
    """
    if not isinstance(params, dict) or params.get("progressToken") != token:
        return None
    meta = params.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    message, metadata = params.get("message"), meta.get(METADATA_KEY)
    event: Any = {"type": meta.get(EVENT_KEY), "data": message}
    if isinstance(metadata, dict):
        event["metadata"] = metadata
    if is_event(event) and event["type"] != MESSAGE:
        return event
    figures: Any = {key: params[key] for key in ("progress", "total") if _is_number(params.get(key))}
    said = message if isinstance(message, str) else " of ".join(f"{figure:g}" for figure in figures.values())
    return {"type": STATUS, "data": said, "metadata": figures}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
