"""A source of questions: opened and checked, then read in batches, with constant memory."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Self, TypeVar

from streaming_queue.errors import ConfigError
from streaming_queue.intake.gunzip import GunzipStream
from streaming_queue.intake.names import LOOKED_FOR, shown
from streaming_queue.intake.parser import Parser, Problem, format_of
from streaming_queue.intake.remarks import Remark
from streaming_queue.intake.stream import FileStream
from streaming_queue.messages import Question, SourceChecks

STDIN = "-"
FLUSH_S = 0.05
"""Longest wait for more questions of a batch that is not empty."""

MAX_UNUSABLE = 10_000
"""Bad records before the first good one; a source with more is refused."""

_CLOSE_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions and the skipped lines among them, in order.

    `lines` is the bookmark: the number of the source's lines read so far. A source opened again with `skip=lines`
    continues with the next question. `checks` are those of the lines
    since the batch before; None if the source cannot be read again.
    """

    questions: list[Question] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    lines: int = 0
    checks: SourceChecks | None = None


class Source:
    """A source from `open_source`. One reader reads it once. Close it, or use it in `async with`.

    Messages call it `name`.
    """

    def __init__(self, path: str | None, *, strict: bool, limit: int | None, skip: int) -> None:
        self.name = {None: "bundled questions", STDIN: "standard input", "": "''"}.get(path, path or "")
        self._left: float = math.inf if limit is None else limit
        self._skip = skip
        file = str(bundled_questions()) if path is None else path
        self._stream = FileStream(self.name, None if path == STDIN else file)
        self._bytes = GunzipStream(self.name, self._stream)
        self._parser = Parser(self.name, format_of(file), strict=strict)
        self._fields = ""
        self._entries: Iterator[tuple[int, Question | Problem]] = iter(())
        self._ended = False
        self._lines = self._checked = skip
        self._error: ConfigError | None = None
        self._reading: asyncio.Future[Any] | None = None

    @property
    def rereadable(self) -> bool:
        """Whether a second opening gives the same lines: true for files, false for standard input and pipes."""
        return self._stream.rereadable

    def describe(self) -> str:
        """The fields in use, by the first usable record: `a.jsonl: question from 'query', id from 'id'`."""
        return f"{self.name}: {self._fields}"

    def remarks(self, *, final: bool = False) -> list[Remark]:
        """New remarks on unused parts of the records so far. `final`: no read follows. Do not call during a read."""
        return self._parser.remarks.new_remarks(final=final or self._ended)

    async def batches(self, size: int = 500) -> AsyncIterator[Batch]:
        """Batches of up to `size` questions and problems, none empty. `close` ends them.

        With a slow pipe, a batch that is not empty comes after `FLUSH_S` at the latest.

        Raises:
            ConfigError: the file cannot be read further, is cut off or corrupt, has fewer lines than `skip`, or has a
                bad line under `strict`. All questions before that were returned.
        """
        while (batch := await self._in_thread(lambda: self._fill(size))) is not None:
            yield batch

    async def close(self) -> None:
        """End a running read and close the file (standard input stays open); idempotent, bounded."""
        self._stream.stop()
        reading = self._reading
        if reading is not None and not reading.done():
            await asyncio.wait({reading}, timeout=_CLOSE_S)
            if not reading.done():
                reading.add_done_callback(lambda _: self._stream.close())
                return
        self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread. A cancelled wait stops the stream, so that the thread ends too."""
        reading = asyncio.get_running_loop().run_in_executor(None, work)
        self._reading = reading
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            self._stream.stop()
            raise

    def _start(self) -> None:
        """Open, and read as far as the first usable record. Raises ConfigError."""
        self._stream.open()
        read: list[tuple[int, Question | Problem]] = []
        problems: list[Problem] = []
        while len(problems) == len(read):
            item = next(self._entries, None)
            if item is not None:
                read.append(item)
                if isinstance(item[1], Problem):
                    problems.append(item[1])
            if len(problems) == MAX_UNUSABLE or (item is None and not self._load(None)):
                raise self._no_question(problems)
        self._fields = self._parser.describe()
        self._parser.skip = self._skip
        del self._parser.checks[: self._skip * SourceChecks.SIZE]
        self._entries = itertools.chain([item for item in read if item[0] > self._skip], self._entries)

    def _no_question(self, problems: list[Problem]) -> ConfigError:
        found = shown(self._parser.names)
        first = f" First of {len(problems)}: {problems[0].location}: {problems[0].reason}." if problems else ""
        return ConfigError(
            f"{self.name} has no usable question{'' if self._ended else ' so far'}: looked for text in a field named "
            f"{LOOKED_FOR} (in any case) and found {f'the fields {found}' if found else 'no fields'}.{first}"
        )

    def _load(self, until: float | None) -> bool:
        """Read more. False at the end, after a stop, or if nothing came before `until`."""
        if self._ended:
            if self._parser.line < self._parser.skip:
                raise ConfigError(
                    f"{self.name} has {self._parser.line} lines, but {self._skip} were read before: it is not "
                    "the file of the first read; start a new run, or restore the old file"
                )
            return False
        data = self._bytes.read(until)
        if data is None:
            return False
        self._ended = not data
        self._entries = self._parser.feed(data) if data else self._parser.finish()
        return True

    def _fill(self, size: int) -> Batch | None:
        """The next batch, None at the end."""
        if self._error is not None:
            raise self._error
        questions: list[Question] = []
        problems: list[Problem] = []
        until = None
        try:
            while self._left > 0 and len(questions) + len(problems) < size:
                item = next(self._entries, None)
                if item is None:
                    if until is None and (questions or problems):
                        until = time.monotonic() + FLUSH_S
                    if self._load(until):
                        continue
                    break
                self._lines, entry = item
                if isinstance(entry, Question):
                    questions.append(entry)
                    self._left -= 1
                else:
                    problems.append(entry)
        except ConfigError as error:
            if not questions and not problems:
                raise
            self._error = error
        if not questions and not problems:
            return None
        return Batch(questions, problems, self._lines, self._take_checks())

    def _take_checks(self) -> SourceChecks | None:
        first, self._checked = self._checked, self._lines
        size = (self._lines - first) * SourceChecks.SIZE
        taken = bytes(self._parser.checks[:size])
        del self._parser.checks[:size]
        return SourceChecks(first, taken) if self.rereadable else None


async def open_source(
    path: str | os.PathLike[str] | None = None, *, strict: bool = False, limit: int | None = None, skip: int = 0
) -> Source:
    """Open a source of questions and check it: a file, `-` for standard input, None for the bundled set.

    Reads up to the first usable record. `strict` refuses the first bad line instead of skipping it. `limit` is the
    highest number of questions to return. `skip` is a bookmark: see `Batch.lines`.

    Raises:
        ConfigError: the source cannot be read or has no question; the text names the file, the wanted fields and the
            fields found. Under `strict`, also the first bad line.
    """
    source = Source(None if path is None else os.fspath(path), strict=strict, limit=limit, skip=skip)
    try:
        await source._in_thread(source._start)  # noqa: SLF001 - no caller sees a half-open source
    except BaseException:
        await source.close()
        raise
    return source


def is_pipe(path: str | None) -> bool:
    """Whether `path` can be read only once: standard input, or a named pipe. Blocks."""
    return path == STDIN or (path is not None and Path(path).is_fifo())


def bundled_questions() -> Path:
    """The bundled set: JSONL with `id`, `question` and `answer`, the short reference answer."""
    return Path(str(files("streaming_queue"))) / "data" / "questions.jsonl"
