"""A2A messages in both versions. No I/O, no SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from streaming_queue.errors import ConfigError, ProtocolError
from streaming_queue.messages import ReplyMetadata
from streaming_queue.protocol_backend.a2a.dialect import KIND_03, KINDS, Dialect

Result = tuple[str, Mapping[str, Any]]
"""The kind of a peer's result (one of `dialect.KINDS`), and its body."""


def encode_message(payload: Mapping[str, Any], message_id: str, dialect: Dialect) -> dict[str, Any]:
    """The params of a message. Raises ConfigError on a payload without text."""
    if isinstance(payload.get("text"), str):
        texts = [payload["text"]]
    elif "parts" in payload:
        parts = payload["parts"]
        texts = [str(part.get("text", "")) for part in parts if part.get("kind", "text") == "text"]
    else:
        raise ConfigError('a payload needs "text" or "parts"')
    message: dict[str, Any] = {
        **dialect.message,
        "messageId": message_id,
        "role": dialect.user,
        "parts": [{**dialect.part, "text": text} for text in texts],
    }
    if metadata := payload.get("metadata"):
        message["metadata"] = metadata
    return {"message": message}


def encode_json(document: Mapping[str, Any]) -> bytes:
    """A document as JSON. Raises ConfigError if JSON cannot hold it."""
    try:
        return orjson.dumps(document)
    except TypeError as error:
        raise ConfigError(f"the payload cannot be sent as JSON: {error}") from error


def decode_result(result: Any, address: str) -> Result:
    """The kind and body of a result or a streamed event. Raises ProtocolError if A2A does not define it."""
    if isinstance(result, Mapping):
        for kind in KINDS:
            body = result.get(kind)
            if isinstance(body, Mapping):
                return kind, body
        if isinstance(known := KIND_03.get(str(result.get("kind"))), str):
            return known, result
    raise ProtocolError(f"{address}: the result is neither a message nor a task: {str(result)[:120]!a}")


def parts_text(holder: Any, separator: str = "\n") -> str:
    """The text of a message or an artifact: its text parts; without text parts, its data parts as JSON."""
    parts = holder.get("parts") if isinstance(holder, Mapping) else None
    usable = [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
    texts = [part["text"] for part in usable if isinstance(part.get("text"), str)]
    if not texts:
        texts = [orjson.dumps(part["data"]).decode() for part in usable if part.get("data") is not None]
    return separator.join(texts)


def payload_of(texts: Sequence[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The payload for an executor, from a message's texts and metadata."""
    payload: dict[str, Any] = (
        {"text": texts[0]} if len(texts) == 1 else {"parts": [{"kind": "text", "text": text} for text in texts]}
    )
    if metadata:
        payload["metadata"] = whole_numbers(metadata)
    return payload


def metadata_of(holder: Any) -> ReplyMetadata:
    """The metadata of a message, task or event; may be empty."""
    metadata = holder.get("metadata") if isinstance(holder, Mapping) else None
    return whole_numbers(metadata) if isinstance(metadata, Mapping) else {}


def whole_numbers(value: Any) -> Any:
    """A copy with 3 instead of 3.0: in A2A every number in metadata is a float (`google.protobuf.Struct`)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return value
