"""Records of JSON Lines: one object a line (https://jsonlines.org)."""

from __future__ import annotations

import json
from typing import Any

import orjson

from streaming_queue.intake.fields import Fields, RecordError
from streaming_queue.intake.lines import TOO_LONG
from streaming_queue.intake.names import kind_of
from streaming_queue.intake.remarks import Remarks
from streaming_queue.messages import Question

_SHAPES_KEPT = 64
_SHAPE_LENGTH_KEPT = 1024


class JsonlDecoder:
    """Takes lines, returns questions. Records may differ in shape: the fields are found in each."""

    def __init__(self, remarks: Remarks) -> None:
        self._remarks = remarks
        self._last: tuple[Fields, dict[str, Any]] | None = None
        self._shapes: dict[tuple[str, ...], Fields] = {}

    def take(self, line: bytes | None) -> Question | None:
        """The question of a line, None for a blank one. Raises RecordError."""
        if line is None:
            raise RecordError(f"the line is {TOO_LONG}")
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = _parse_again(line)
            if record is None:
                return None
        if type(record) is not dict:
            hint = "; write one object a line, as `jq -c '.[]'` does" if type(record) is list else ""
            raise RecordError(f"the line is {kind_of(record)}, not a JSON object{hint}")
        shape = tuple(record)
        fields = self._shapes.get(shape) or self._find(shape)
        for key in (*fields.id, *fields.reference):
            value = record[key]
            if type(value) is float or (type(value) is list and float in map(type, value)):
                record[key] = _numbers_as_text(line, key)
        question = fields.read(record, self._remarks)
        self._last = fields, record
        return question

    def finish(self) -> None:
        """Do nothing: a line is a whole record."""

    @property
    def names(self) -> list[str]:
        """The fields of the first records."""
        return list(dict.fromkeys(name for shape in self._shapes for name in shape))

    def describe(self) -> str:
        """The fields of the last usable record."""
        return self._last[0].describe(self._last[1]) if self._last else ""

    def _find(self, shape: tuple[str, ...]) -> Fields:
        fields = Fields.find(shape, shape)
        self._remarks.unused_fields(fields.others)
        if len(self._shapes) < _SHAPES_KEPT and sum(map(len, shape)) < _SHAPE_LENGTH_KEPT:
            self._shapes[shape] = fields
        return fields


def _parse_again(line: bytes) -> Any:
    """The record in a line with spaces of any kind or a byte order mark at its ends, None if blank."""
    try:
        text = line.decode()
    except UnicodeDecodeError as bad:
        raise RecordError(f"not UTF-8: byte 0x{line[bad.start]:02x} at position {bad.start + 1}") from None
    text = text.strip().removeprefix("\ufeff").strip()
    if not text:
        return None
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RecordError(f"not JSON: {error.msg} at column {error.colno}") from None
    if record is None:
        raise RecordError("the line is null, not a JSON object")
    return record


def _numbers_as_text(line: bytes, key: str) -> Any:
    """The value of `key` with its numbers as written: 1.0 stays 1.0, and a long number keeps all digits."""
    try:
        record = json.loads(line.decode().strip().removeprefix("\ufeff"), parse_float=str, parse_int=str)
    except RecursionError:
        raise RecordError("not JSON: nested too deep") from None
    return record[key]
