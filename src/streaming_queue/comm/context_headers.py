"""A call's context in headers, for every protocol that has them: values percent-encoded where a header needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from streaming_queue.comm.context import HEADER_BY_KEY

_TRACE = "traceparent"
_NUMBERS = frozenset({"attempt", "deadline_ms", "hops"})


def write_context(metadata: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The headers for `metadata`, and the part of it that no header carries."""
    headers: dict[str, str] = {}
    rest: dict[str, Any] = {}
    for key, value in metadata.items():
        header = HEADER_BY_KEY.get(key)
        if header is None:
            rest[key] = value
        elif key in _NUMBERS and type(value) is int and value >= 0:
            headers[header] = str(value)
        elif key not in _NUMBERS and isinstance(value, str):
            headers[header] = _escaped(value)
        else:
            rest[key] = value
    return headers, rest


def write_trace(metadata: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The header that proxies on the way look for (`traceparent`), and the rest of `metadata`.

    For messages that carry metadata of their own: each header costs both ends more than a member of the message.
    """
    rest = dict(metadata)
    trace = rest.get(_TRACE)
    if not isinstance(trace, str):
        return {}, rest
    del rest[_TRACE]
    return {_TRACE: _escaped(trace)}, rest


def _escaped(value: str) -> str:
    """Percent-encoded where a header could not carry it as it is."""
    if value.isascii() and value.isprintable() and "%" not in value and value == value.strip():
        return value
    return quote(value, safe="/:", errors="replace")


def read_context(headers: Mapping[str, str]) -> dict[str, Any]:
    """The metadata that `headers` (by lower-case name) carry; a number that is none stays the text it is."""
    context: dict[str, Any] = {}
    for key, header in HEADER_BY_KEY.items():
        value = headers.get(header)
        if value is None:
            continue
        if key in _NUMBERS:
            numeric = value.isascii() and value.isdigit() and len(value) < 20
            context[key] = int(value) if numeric else value
        else:
            context[key] = unquote(value) if "%" in value else value
    return context
