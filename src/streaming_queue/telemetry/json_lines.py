"""JSON Lines, one object per line: the output of `--json`, and the encoding of every file of rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, BinaryIO

import orjson

from streaming_queue.telemetry.streams import SafeStream
from streaming_queue.telemetry.text import json_visible

_INT64 = 2**63
_DEEPEST = 64


def _plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can hold it: `?` for a lone surrogate, a float for an integer past 64 bits, bounded depth."""
    if depth == _DEEPEST:
        value = str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return float(value) if abs(value) < 10**300 else str(value)
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    return value


def _default(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, set | frozenset) else str(value)


def encode(value: Any, *, indent: bool = False) -> bytes:
    """`value` as UTF-8 JSON, for any text in it. NaN becomes null, a value of an unknown type its `str`."""
    option = orjson.OPT_INDENT_2 if indent else None
    try:
        return orjson.dumps(value, default=_default, option=option)
    except orjson.JSONEncodeError:
        return orjson.dumps(_plain(value), default=lambda item: _plain(_default(item)), option=option)


def encode_line(row: Mapping[str, Any]) -> bytes:
    """`row` as one line of JSON Lines, with its newline."""
    return encode(row) + b"\n"


class JsonLines:
    """The `--json` output of a run: `{"type": "result", ...row}` per question, `{"type": "summary", ...}` at the end.

    Each line is written and flushed at once, with control characters as JSON escapes. If the reader goes away, the run
    goes on: the rest is dropped, and `broken` is true. A slow reader blocks the calls: make them from a thread.
    """

    def __init__(self, stream: BinaryIO | None = None) -> None:
        """`stream` defaults to standard output."""
        self._stream = SafeStream(stream or (sys.stdout.buffer if sys.stdout is not None else None))

    @property
    def broken(self) -> bool:
        """Whether the reader went away."""
        return self._stream.broken

    @property
    def failure(self) -> OSError | None:
        """The error that stopped the output, such as a full disk; None if the reader went away."""
        return self._stream.failure

    def result(self, row: Mapping[str, Any]) -> None:
        """Print a row (`Outcome.row()`)."""
        self._write({"type": "result", **row})

    def record(self, record: Mapping[str, Any]) -> None:
        """Print an object."""
        self._write(record)

    def summary(self, summary: Mapping[str, Any]) -> None:
        """Print the summary of the run."""
        self._write({"type": "summary", **summary})

    def _write(self, record: Mapping[str, Any]) -> None:
        self._stream.write_bytes(json_visible(encode_line(record).decode()).encode())
