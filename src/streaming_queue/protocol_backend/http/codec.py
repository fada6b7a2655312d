"""A message of the contract: JSON, and headers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streaming_queue.comm.context import HEADER_BY_KEY
from streaming_queue.comm.context_headers import read_context
from streaming_queue.comm.payload import decode_object, decode_payload

JSON = "application/json"
NDJSON = "application/x-ndjson"

_NAMES = tuple((header, header.encode()) for header in HEADER_BY_KEY.values())


def decode_request(body: bytes, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The payload of a message, with the context headers in its metadata. Raises ProtocolError if it is not valid."""
    payload = decode_payload(decode_object(body))
    texts = {name: headers[raw].decode("latin-1") for name, raw in _NAMES if raw in headers}
    if texts:
        payload["metadata"] = {**payload.get("metadata", {}), **read_context(texts)}
    return payload
