"""Results, failures and bookmarks as the JSON text that an engine stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streaming_queue.errors import QueueError
from streaming_queue.messages import Failure, Result
from streaming_queue.telemetry.json_lines import encode

LARGE = 256 * 1024
"""Characters of a large answer."""


def encode_end(end: Result | Failure) -> str:
    """`end` as one JSON object. A value that JSON cannot hold is replaced and never refused, so no answer is lost."""
    return encode(end).decode()


def is_large(result: Result) -> bool:
    """Whether copies of the answer count: large answers are encoded, stored and read one at a time."""
    return len(result.answer) > LARGE


def encode_bookmark(bookmark: Mapping[str, Any]) -> str:
    """`bookmark` as JSON. Raises QueueError if a value would change: a changed bookmark is worse than none."""
    try:
        return orjson.dumps(bookmark, default=_mapping).decode()
    except orjson.JSONEncodeError as error:
        raise QueueError(f"the bookmark cannot be stored as JSON ({error}); nothing of its batch was stored") from error


def decode_bookmark(text: str | None) -> dict[str, Any] | None:
    """The bookmark that `encode_bookmark` wrote, None if none was stored."""
    return None if text is None else orjson.loads(text)


def _mapping(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
