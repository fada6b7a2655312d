"""From bytes to questions, without I/O. Any cut of the input gives the same result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from streaming_queue.errors import ConfigError
from streaming_queue.intake.fields import RecordError
from streaming_queue.intake.identity import check_of
from streaming_queue.intake.jsonl import JsonlDecoder
from streaming_queue.intake.lines import LineBuffer
from streaming_queue.intake.remarks import Remarks
from streaming_queue.intake.table import TableDecoder, is_header
from streaming_queue.messages import MAX_QUESTION_BYTES, Question, is_too_long

Format = Literal["jsonl", "table"]

_BOM = b"\xef\xbb\xbf"
_JSONL = (".jsonl", ".ndjson", ".json")
_TABLE = (".csv", ".tsv")


def format_of(path: str) -> Format | None:
    """The format by the name of a file, None if its first line decides."""
    name = path.lower().removesuffix(".gz")
    return "jsonl" if name.endswith(_JSONL) else "table" if name.endswith(_TABLE) else None


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that was skipped: `location` is `file:line` (a row's first line), `reason` says why."""

    location: str
    reason: str

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


class Parser:
    """Takes bytes, returns questions and problems, each with the number of lines up to its end.

    `line` is the number of lines so far. Lines up to `skip` are skipped unread. `checks` grows by the check of each
    further line (`identity`). With `strict` the first bad line raises
    ConfigError.
    """

    def __init__(self, name: str, form: Format | None = None, *, strict: bool = False) -> None:
        self.line = 0
        self.skip = 0
        self.checks = bytearray()
        self.remarks = Remarks(name)
        self._name = name
        self._form = form
        self._strict = strict
        self._lines = LineBuffer()
        self._decoder: JsonlDecoder | TableDecoder | None = None

    def feed(self, data: bytes) -> Iterator[tuple[int, Question | Problem]]:
        """The entries that `data` completes. Exhaust it before the next call. Raises ConfigError on a bad header."""
        return self._entries(self._lines.feed(data))

    def finish(self) -> Iterator[tuple[int, Question | Problem]]:
        """The entries that the end completes. Raises ConfigError if all lines were blank."""
        yield from self._entries(self._lines.finish())
        if self._decoder is None:
            raise ConfigError(f"{self._name} is empty: give JSONL, one object a line, or CSV with a header")
        try:
            self._decoder.finish()
        except RecordError as error:
            yield self.line, self._problem(error)

    def describe(self) -> str:
        """The fields in use: `question from 'query', id from 'id', reference from 'answer'`."""
        return self._decoder.describe() if self._decoder else ""

    @property
    def names(self) -> list[str]:
        """The known fields of the records."""
        return self._decoder.names if self._decoder else []

    def _entries(self, lines: Iterable[bytes | None]) -> Iterator[tuple[int, Question | Problem]]:
        for line in lines:
            self.line += 1
            if self.line <= self.skip:
                continue
            self.checks += check_of(line)
            if self._decoder is None:
                self._decoder = self._choose(line)
                if not isinstance(self._decoder, JsonlDecoder):
                    continue
            self.remarks.line = self.line
            try:
                question = self._decoder.take(line)
                if question is not None and is_too_long(question.text):
                    raise RecordError(f"the question is over {MAX_QUESTION_BYTES:,} bytes as JSON")
            except RecordError as error:
                yield self.line, self._problem(error)
            else:
                if question is not None:
                    yield self.line, question

    def _choose(self, line: bytes | None) -> JsonlDecoder | TableDecoder | None:
        """The decoder for the first line, which a table takes as its header; None if it is blank."""
        start = None if line is None else line.removeprefix(_BOM)
        if start is not None and not start.decode(errors="replace").strip():
            return None
        if self._form == "table" or (self._form is None and start is not None and is_header(start)):
            return TableDecoder(self._name, start, self.remarks)
        return JsonlDecoder(self.remarks)

    def _problem(self, error: RecordError) -> Problem:
        problem = Problem(f"{self._name}:{self.line - error.lines + 1}", str(error))
        if self._strict:
            raise ConfigError(str(problem))
        return problem
