"""A payload as JSON, for each of our own protocols that carries one. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streaming_queue.comm import strict_json
from streaming_queue.comm.context_headers import write_context
from streaming_queue.errors import ConfigError, ProtocolError


def encode_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The object for `payload`, without its metadata. Raises ConfigError if it has neither text nor parts."""
    if "text" in payload:
        return {"text": payload["text"]}
    if "parts" in payload:
        return {"parts": payload["parts"]}
    raise ConfigError('a payload needs "text" or "parts"')


def decode_payload(document: Mapping[str, Any]) -> dict[str, Any]:
    """The payload in an object, with its metadata. It ignores unknown members. Raises ProtocolError."""
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


def encode_request(payload: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The body and the context headers of a message, for a protocol with both.

    Raises:
        ConfigError: the payload has neither text nor parts.
        ProtocolError: JSON cannot hold it; not retryable.
    """
    document = encode_payload(payload)
    headers, rest = write_context(payload.get("metadata") or {})
    if rest:
        document["metadata"] = rest
    return encode_document(document), headers


def encode_document(document: Mapping[str, Any]) -> bytes:
    """A message to an agent as JSON. Raises ProtocolError, not retryable, if JSON cannot hold it."""
    try:
        return orjson.dumps(document)
    except TypeError as error:
        raise malformed(f"the payload cannot be sent as JSON: {error}") from error


def decode_object(body: bytes, what: str = "the body") -> dict[str, Any]:
    """The JSON object in a caller's body, read strictly (`strict_json.loads`).

    Raises ProtocolError, not retryable; its text calls the object `what`.
    """
    try:
        document = strict_json.loads(body)
    except ValueError as error:
        raise malformed(f"{what} is no valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise malformed(f"{what} must be a JSON object")
    return document


def malformed(reason: str) -> ProtocolError:
    """The error for one wrong message. It is not a ConfigError: the next message may be valid."""
    return ProtocolError(reason, retryable=False)
