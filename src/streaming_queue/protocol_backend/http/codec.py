"""A message as the contract writes it: JSON, and headers beside it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import orjson

from streaming_queue.comm import strict_json
from streaming_queue.comm.context import HEADER_BY_KEY
from streaming_queue.errors import ConfigError, ProtocolError

JSON = "application/json"
NDJSON = "application/x-ndjson"

_KEYS_AND_HEADERS = tuple((key, header.encode()) for key, header in HEADER_BY_KEY.items())
_NUMBERS = frozenset({"attempt", "deadline_ms", "hops"})


def encode_request(payload: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The body and the context headers of a message.

    Raises:
        ConfigError: the payload has neither text nor parts.
        ProtocolError: JSON cannot hold it; not retryable.
    """
    document: dict[str, Any] = {}
    if "text" in payload:
        document["text"] = payload["text"]
    elif "parts" in payload:
        document["parts"] = payload["parts"]
    else:
        raise ConfigError('a payload has "text" or "parts"')
    headers: dict[str, str] = {}
    rest: dict[str, Any] = {}
    for key, value in (payload.get("metadata") or {}).items():
        header = HEADER_BY_KEY.get(key)
        if header is None:
            rest[key] = value
        elif key in _NUMBERS and type(value) is int and value >= 0:
            headers[header] = str(value)
        elif key not in _NUMBERS and isinstance(value, str):
            headers[header] = _escaped(value)
        else:
            rest[key] = value
    if rest:
        document["metadata"] = rest
    try:
        return orjson.dumps(document), headers
    except TypeError as error:
        raise _malformed(f"the payload cannot be sent as JSON: {error}") from error


def _escaped(value: str) -> str:
    """Percent-encoded where a header could not carry it as it is."""
    if value.isascii() and value.isprintable() and "%" not in value and value == value.strip():
        return value
    return quote(value, safe="/:", errors="replace")


def decode_request(body: bytes, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The payload of a message, with the context headers back in its metadata. Raises ProtocolError when it is none."""
    document = decode_object(body)
    payload: dict[str, Any] = {}
    if "text" in document:
        if not isinstance(document["text"], str):
            raise _malformed('"text" must be a string')
        payload["text"] = document["text"]
    elif "parts" in document:
        parts = document["parts"]
        if not isinstance(parts, list) or not all(
            isinstance(part, dict) and isinstance(part.get("text", ""), str) for part in parts
        ):
            raise _malformed('"parts" must be a list of {"kind": "text", "text": string}')
        payload["parts"] = parts
    else:
        raise _malformed('the body must have "text" or "parts"')
    if metadata := _metadata(document, headers):
        payload["metadata"] = metadata
    return payload


def _metadata(document: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    metadata = document.get("metadata")
    if metadata is None:
        metadata = {}
    elif not isinstance(metadata, dict):
        raise _malformed('"metadata" must be an object')
    for key, header in _KEYS_AND_HEADERS:
        raw = headers.get(header)
        if raw is not None:
            value = raw.decode("latin-1")
            if key in _NUMBERS:
                numeric = value.isascii() and value.isdigit() and len(value) < 20
                metadata[key] = int(value) if numeric else value
            else:
                metadata[key] = unquote(value) if "%" in value else value
    return metadata


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; no NaN, no key twice, no bottomless nesting. Raises ProtocolError."""
    try:
        document = strict_json.loads(body)
    except ValueError as error:
        raise _malformed(f"the body is no valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise _malformed("the body must be a JSON object")
    return document


def _malformed(reason: str) -> ProtocolError:
    """One message is wrong: the next may be fine, so this says nothing against anybody's configuration."""
    return ProtocolError(reason, retryable=False)
