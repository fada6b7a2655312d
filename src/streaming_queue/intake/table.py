"""Records of a table with a header: CSV (RFC 4180), also with semicolons or tabs."""

from __future__ import annotations

import csv

from streaming_queue.errors import ConfigError
from streaming_queue.intake.fields import Fields, RecordError
from streaming_queue.intake.lines import MAX_LINE_BYTES, TOO_LONG
from streaming_queue.intake.names import LOOKED_FOR, shown
from streaming_queue.intake.remarks import Remarks
from streaming_queue.messages import Question

DELIMITERS = (",", ";", "\t")

# The csv module's own limit, one for the whole process, is 128 KiB per cell, which is less than ours.
csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))


def _parse(text: str, delimiter: str) -> tuple[list[str], bool]:
    """The row in `text`, and whether a quote in it is still open. Raises RecordError."""
    lines = iter((text, ""))
    try:
        row = next(csv.reader(lines, delimiter=delimiter), [])
        return row, next(lines, None) is None  # with an open quote the reader took the second line too
    except csv.Error as error:
        raise RecordError(f"not CSV: {error}") from None


def is_header(line: bytes) -> bool:
    """Whether a line is the header of a table with a question column."""
    text = line.decode(errors="replace").strip()
    try:
        return not text.startswith("{") and _delimiter(text) is not None
    except RecordError:
        return False


def _delimiter(header: str) -> str | None:
    """The delimiter with which a header has a question column, None if there is none. Raises RecordError."""
    for delimiter in DELIMITERS:
        names, _ = _parse(header, delimiter)
        if Fields.find(names, names).question:
            return delimiter
    return None


class TableDecoder:
    """Takes lines, returns questions; the first line is the header. A quoted cell may span lines."""

    def __init__(self, name: str, header: bytes | None, remarks: Remarks) -> None:
        if header is None:
            raise ConfigError(f"{name}: the header is {TOO_LONG}")
        try:
            text = header.decode()
            self._delimiter = _delimiter(text) or max(DELIMITERS, key=text.count)
            names, is_open = _parse(text, self._delimiter)
        except UnicodeDecodeError:
            raise ConfigError(f"{name}: the header is not UTF-8; save the table as UTF-8") from None
        except RecordError as error:
            raise ConfigError(f"{name}: the header is {error}") from None
        self.fields = Fields.find(names, range(len(names)))
        if is_open or not self.fields.question:
            problem = "a quote in the header is never closed" if is_open else "no column holds the question"
            raise ConfigError(
                f"{name}: {problem}: looked for a column named {LOOKED_FOR} (in any case), "
                f"the header has {shown(names)}"
            )
        self._remarks = remarks
        remarks.unused_fields(self.fields.others)
        self._last: list[str | None] | None = None
        self._kept = bytearray()
        self._kept_lines = 0

    def take(self, line: bytes | None) -> Question | None:
        """The question of the row that `line` ends, None for a blank line or an unfinished row. Raises RecordError."""
        number = self._kept_lines + 1
        try:
            cells = self._cells(line)
            if cells is None:
                self._kept_lines = number
                return None
            self._forget()
            self._remarks.line -= number - 1
            return self._question(cells)
        except RecordError as error:
            self._forget()
            error.lines = number
            raise

    def finish(self) -> None:
        """Raise RecordError if a row is not whole."""
        if self._kept:
            error = RecordError("a quote opens in this row and is never closed: the text after it was read as one cell")
            error.lines = self._kept_lines
            raise error

    @property
    def names(self) -> list[str]:
        """The header."""
        return list(self.fields.names)

    def describe(self) -> str:
        """The columns in use, by the last usable row."""
        return self.fields.describe(self._last) if self._last else ""

    def _forget(self) -> None:
        self._kept.clear()
        self._kept_lines = 0

    def _cells(self, line: bytes | None) -> list[str] | None:
        """The row that `line` ends; None, and the line is kept, while a quote in it is open. Raises RecordError."""
        kept = self._kept
        if line is None or len(kept) + len(line) > MAX_LINE_BYTES + 1:
            raise RecordError(f"the row is {TOO_LONG}{'; is a quote in it never closed?' if kept else ''}")
        data = line + b"\n"
        if kept:
            kept += data
            # A line inside a quoted cell parses like a line that begins with a quote. The whole row is parsed once.
            if b'"' not in line or _parse('"' + data.decode(errors="replace"), self._delimiter)[1]:
                return None
            data = bytes(kept)
        fault = None
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            text = data.decode(errors="replace")
            fault = RecordError(f"not UTF-8: byte 0x{data[error.start]:02x}")
        cells, is_open = _parse(text, self._delimiter)
        if is_open:
            kept += data
            return None
        if fault is not None:
            raise fault
        return cells

    def _question(self, cells: list[str]) -> Question | None:
        if not "".join(cells).strip():
            return None
        width = len(self.fields.names)
        if len(cells) > width and any(cells[width:]):
            raise RecordError(f"{len(cells)} cells under a header of {width}: quote a cell that holds the delimiter")
        row = [cell or None for cell in cells]
        row.extend([None] * (width - len(row)))
        question = self.fields.read(row, self._remarks)
        self._last = row
        return question
