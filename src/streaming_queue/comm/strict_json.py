"""JSON from a stranger: bounded before it is read, and, in what a host takes, read strictly."""

from __future__ import annotations

import json
from typing import Any

import orjson

from streaming_queue.errors import ProtocolError

MAX_VALUES = 10_000
"""How many values one message may have, at any depth. A list or an object counts twice, a text of any length once."""
MAX_ANSWER_VALUES = 100_000
"""The same for what a peer answers, which may be a list of all the pieces of an answer."""
MAX_DEPTH = 254
"""How deep its lists and objects may lie in each other; `orjson` writes no more."""


class OverBoundsError(ValueError):
    """A document has more values than it may, or is deeper than `MAX_DEPTH`."""


def loads(body: bytes) -> Any:
    """The document in `body`; no NaN, no key twice in an object. Raises ValueError, of which OverBoundsError is one."""
    document = read(body)
    try:
        # What comes back as the same bytes has no key twice; only other spellings pay for a second look.
        if orjson.dumps(document) != body:
            json.loads(body, object_pairs_hook=_unique)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return document


def read(body: bytes | str, most: int = MAX_VALUES) -> Any:
    """The document in `body`. Raises ValueError; OverBoundsError before more than `most` values are built."""
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
    """The document in a peer's answer, None where it is no JSON.

    Raises ProtocolError, not retryable, when it has too many values; `origin` is put before that.
    """
    try:
        return read(body, MAX_ANSWER_VALUES)
    except OverBoundsError as error:
        raise ProtocolError(f"{origin}: what came back cannot be read: {error}", retryable=False) from error
    except ValueError:
        return None


def read_or_none(body: bytes | str) -> Any:
    """The document in what a peer says, None where there is none that may be read."""
    try:
        return read(body, MAX_ANSWER_VALUES)
    except ValueError:
        return None


def _check_values(body: bytes, most: int) -> int:
    """How many lists and objects there are. Raises OverBoundsError; nothing is built but what is outside of texts."""
    if body.lstrip()[:1] not in (b"{", b"["):
        return 0  # one text, or no JSON at all
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if plain.count(b'"') <= 4 * most:  # a key and a value have four quotes
        outside = b"".join(plain.split(b'"')[::2])
        opened = outside.count(b"{") + outside.count(b"[")
        if opened + outside.count(b",") < most:
            return opened
    raise OverBoundsError(f"it has more than {most:,} values")


def _check_depth(document: Any) -> None:
    """Raise OverBoundsError where a document is too deep. Its values are few by now."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise OverBoundsError(f"it is nested deeper than {MAX_DEPTH} levels")


def _inside(outer: Any) -> list[Any]:
    """The lists and objects right inside of a value."""
    held = outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
    return [inner for inner in held if isinstance(inner, dict | list)]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("an object has the same key twice")
    return table
