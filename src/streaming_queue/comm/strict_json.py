"""JSON from a stranger, read strictly."""

from __future__ import annotations

import json
from typing import Any

import orjson


def loads(body: bytes) -> Any:
    """The document in `body`; no NaN, no key twice in an object, no bottomless nesting. Raises ValueError."""
    try:
        document = orjson.loads(body)
        # What comes back as the same bytes has no key twice; only other spellings pay for a second look.
        if orjson.dumps(document) != body:
            json.loads(body, object_pairs_hook=_unique)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("an object has the same key twice")
    return table
