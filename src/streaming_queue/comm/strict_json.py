"""JSON from an untrusted peer: checked against limits before parsing; a host also parses strictly."""

from __future__ import annotations

import json
from typing import Any

import orjson

from streaming_queue.errors import ProtocolError

MAX_VALUES = 10_000
"""The limit for the values in one message, at any depth. A list or object counts twice, a text of any length once."""
MAX_ANSWER_VALUES = 100_000
"""The limit for a peer's answer, which may be a list of all its deltas."""
MAX_DEPTH = 254
"""The limit for the nesting of lists and objects; `orjson` writes no more."""


class OverBoundsError(ValueError):
    """A document has too many values, or is nested deeper than `MAX_DEPTH`."""


def loads(body: bytes) -> Any:
    """The document in `body`; no NaN, no duplicate key. Raises ValueError, also as OverBoundsError."""
    document = read(body)
    try:
        # If writing gives the same bytes again, no key is duplicate; only other spellings need a second parse.
        if orjson.dumps(document) != body:
            json.loads(body, object_pairs_hook=_unique)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return document


def read(body: bytes | str, most: int = MAX_VALUES) -> Any:
    """The document in `body`. Raises ValueError; raises OverBoundsError before it builds more than `most` values."""
    if isinstance(body, str):
        body = body.encode()
    opened = body.count(b"{") + body.count(b"[")
    if opened + body.count(b",") >= most:
        opened = _check_values(body, most)
    document = orjson.loads(body)
    if opened > MAX_DEPTH:
        _check_depth(document)
    return document


def read_answer(body: bytes | str, origin: str) -> Any:
    """The document in a peer's answer, None if the answer is not JSON.

    Raises ProtocolError, not retryable and with the prefix `origin`, if it has too many values.
    """
    try:
        return read(body, MAX_ANSWER_VALUES)
    except OverBoundsError as error:
        raise ProtocolError(f"{origin}: the answer cannot be read: {error}", retryable=False) from error
    except ValueError:
        return None


def read_or_none(body: bytes | str) -> Any:
    """The document in a peer's text, None if the text is not JSON or is over the limits."""
    try:
        return read(body, MAX_ANSWER_VALUES)
    except ValueError:
        return None


def _check_values(body: bytes, most: int) -> int:
    """Count the lists and objects outside of texts, without parsing. Raises OverBoundsError."""
    if body.lstrip()[:1] not in (b"{", b"["):
        return 0  # one text, or not JSON
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if plain.count(b'"') <= 4 * most:  # a key and a value have four quotes
        outside = b"".join(plain.split(b'"')[::2])
        opened = outside.count(b"{") + outside.count(b"[")
        if opened + outside.count(b",") < most:
            return opened
    raise OverBoundsError(f"it has more than {most:,} values")


def _check_depth(document: Any) -> None:
    """Raise OverBoundsError if a document is too deep. `_check_values` has limited its size."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise OverBoundsError(f"it is nested deeper than {MAX_DEPTH} levels")


def _inside(outer: Any) -> list[Any]:
    """The lists and objects directly in a value."""
    held = outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
    return [inner for inner in held if isinstance(inner, dict | list)]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("an object has the same key twice")
    return table
