"""A message as the contract writes it: JSON, and headers beside it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streaming_queue.comm import strict_json
from streaming_queue.comm.context import HEADER_BY_KEY
from streaming_queue.comm.context_headers import read_context, write_context
from streaming_queue.comm.payload import decode_payload, encode_payload, malformed

JSON = "application/json"
NDJSON = "application/x-ndjson"

_NAMES = tuple((header, header.encode()) for header in HEADER_BY_KEY.values())


def encode_request(payload: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The body and the context headers of a message.

    Raises:
        ConfigError: the payload has neither text nor parts.
        ProtocolError: JSON cannot hold it; not retryable.
    """
    document = encode_payload(payload)
    headers, rest = write_context(payload.get("metadata") or {})
    if rest:
        document["metadata"] = rest
    try:
        return orjson.dumps(document), headers
    except TypeError as error:
        raise malformed(f"the payload cannot be sent as JSON: {error}") from error


def decode_request(body: bytes, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The payload of a message, with the context headers back in its metadata. Raises ProtocolError when it is none."""
    payload = decode_payload(decode_object(body))
    texts = {name: headers[raw].decode("latin-1") for name, raw in _NAMES if raw in headers}
    if texts:
        payload["metadata"] = {**payload.get("metadata", {}), **read_context(texts)}
    return payload


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; no NaN, no key twice, no bottomless nesting. Raises ProtocolError."""
    try:
        document = strict_json.loads(body)
    except ValueError as error:
        raise malformed(f"the body is no valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise malformed("the body must be a JSON object")
    return document
