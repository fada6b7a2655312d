"""A message as the contract writes it: JSON, and headers beside it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import orjson

from streaming_queue.comm import strict_json
from streaming_queue.comm.context import HEADER_BY_KEY
from streaming_queue.comm.payload import decode_payload, encode_payload, malformed

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
    document = encode_payload(payload)
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
        raise malformed(f"the payload cannot be sent as JSON: {error}") from error


def _escaped(value: str) -> str:
    """Percent-encoded where a header could not carry it as it is."""
    if value.isascii() and value.isprintable() and "%" not in value and value == value.strip():
        return value
    return quote(value, safe="/:", errors="replace")


def decode_request(body: bytes, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The payload of a message, with the context headers back in its metadata. Raises ProtocolError when it is none."""
    payload = decode_payload(decode_object(body))
    if context := _context(headers):
        payload["metadata"] = {**payload.get("metadata", {}), **context}
    return payload


def _context(headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    context: dict[str, Any] = {}
    for key, header in _KEYS_AND_HEADERS:
        raw = headers.get(header)
        if raw is not None:
            value = raw.decode("latin-1")
            if key in _NUMBERS:
                numeric = value.isascii() and value.isdigit() and len(value) < 20
                context[key] = int(value) if numeric else value
            else:
                context[key] = unquote(value) if "%" in value else value
    return context


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; no NaN, no key twice, no bottomless nesting. Raises ProtocolError."""
    try:
        document = strict_json.loads(body)
    except ValueError as error:
        raise malformed(f"the body is no valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise malformed("the body must be a JSON object")
    return document
