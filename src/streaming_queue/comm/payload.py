"""A payload as JSON, for every protocol of ours that carries it as such. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streaming_queue.errors import ConfigError, ProtocolError


def encode_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The object for `payload`, without its metadata. Raises ConfigError when it has neither text nor parts."""
    if "text" in payload:
        return {"text": payload["text"]}
    if "parts" in payload:
        return {"parts": payload["parts"]}
    raise ConfigError('a payload has "text" or "parts"')


def decode_payload(document: Mapping[str, Any]) -> dict[str, Any]:
    """The payload in an object, with its metadata; members that nobody knows are ignored. Raises ProtocolError."""
    payload: dict[str, Any] = {}
    if "text" in document:
        if not isinstance(document["text"], str):
            raise malformed('"text" must be a string')
        payload["text"] = document["text"]
    elif "parts" in document:
        parts = document["parts"]
        if not isinstance(parts, list) or not all(
            isinstance(part, dict) and isinstance(part.get("text", ""), str) for part in parts
        ):
            raise malformed('"parts" must be a list of {"kind": "text", "text": string}')
        payload["parts"] = parts
    else:
        raise malformed('a message must have "text" or "parts"')
    metadata = document.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise malformed('"metadata" must be an object')
    if metadata:
        payload["metadata"] = metadata
    return payload


def malformed(reason: str) -> ProtocolError:
    """One message is wrong: the next may be fine, so this says nothing against anybody's configuration."""
    return ProtocolError(reason, retryable=False)
