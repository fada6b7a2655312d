"""Results, failures and bookmarks as JSON text: how an engine keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streaming_queue.errors import QueueError
from streaming_queue.messages import Failure, Result


def encode_result(result: Result) -> str:
    """The result as one JSON object. What JSON cannot hold is replaced, never refused: an answer is not thrown away."""
    return _encode_whole(result)


def decode_result(body: Mapping[str, Any]) -> Result:
    """The result that `encode_result` described, parsed."""
    return Result(**body)


def encode_failure(failure: Failure) -> str:
    """The failure as one JSON object, with the same care for an odd text as a result."""
    return _encode_whole(failure)


def decode_failure(body: Mapping[str, Any]) -> Failure:
    """The failure that `encode_failure` described, parsed."""
    return Failure(**body)


def encode_bookmark(bookmark: Mapping[str, Any]) -> str:
    """The bookmark as JSON. Raises QueueError when it is none: a bookmark that changes is worse than none."""
    try:
        return orjson.dumps(bookmark, default=_mapping).decode()
    except orjson.JSONEncodeError as error:
        raise QueueError(f"the bookmark cannot be stored as JSON ({error}); nothing of its batch was stored") from error


def _mapping(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _encode_whole(record: Result | Failure) -> str:
    try:
        return orjson.dumps(record, default=_mapping).decode()
    except orjson.JSONEncodeError:
        fields = {name: _plain(getattr(record, name)) for name in record.__dataclass_fields__}
        return orjson.dumps(fields).decode()


def _plain(value: object, depth: int = 0) -> Any:
    """The nearest thing JSON can hold: lone surrogates become `?`, foreign objects and huge numbers their text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth < 32 and isinstance(value, Mapping):
        return {str(_plain(str(key))): _plain(item, depth + 1) for key, item in value.items()}
    if depth < 32 and isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return _plain(str(value))
