"""A call's context in headers, for every protocol that has headers. Values are percent-encoded if necessary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from streaming_queue.comm.context import HEADER_BY_KEY

_TRACE = "traceparent"
_NUMBERS = frozenset({"attempt", "deadline_ms", "hops"})


def write_context(metadata: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The headers for `metadata`, and the rest of the metadata, which has no header."""
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
    """The header that proxies read (`traceparent`), and the rest of `metadata`.

    For protocols whose messages carry metadata: a header costs both ends more CPU than a field of the message.
    """
    rest = dict(metadata)
    trace = rest.get(_TRACE)
    if not isinstance(trace, str):
        return {}, rest
    del rest[_TRACE]
    return {_TRACE: _escaped(trace)}, rest


def _escaped(value: str) -> str:
    """The value, percent-encoded if a header cannot carry it unchanged."""
    if value.isascii() and value.isprintable() and "%" not in value and value == value.strip():
        return value
    return quote(value, safe="/:", errors="replace")


def read_context(headers: Mapping[str, str]) -> dict[str, Any]:
    """The metadata in `headers` (by lower-case name). A number that is not valid stays a text."""
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
