"""The readable rest of a damaged queue database."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from streaming_queue.messages import Failure, Result
from streaming_queue.queue.sqlite_schema import connect, log_of, page_size, stated_size, version_of

CHUNK = 1024
LEAST_BYTES = 32
"""Every question takes more bytes. So a question number above size / LEAST_BYTES is damage too."""
LATEST = 253402300799.0
"""The end of the year 9999."""

_QUESTION = "SELECT seq, qid, state, attempts, settled_at, failure FROM question WHERE seq BETWEEN ? AND ?"
_BODY = "SELECT seq, text, reference FROM body WHERE seq BETWEEN ? AND ?"
_RESULT = "SELECT seq, attempt, committed_at, body FROM result WHERE seq BETWEEN ? AND ?"
_NAMES = "SELECT qid, seq FROM question INDEXED BY sqlite_autoindex_question_1 ORDER BY qid"
_TABLES = ("question", "body", "result")


@dataclass(frozen=True, slots=True)
class Remains:
    """The readable parts of one question; None for a part that is missing or unreadable.

    `settled_at` is the time when its end was recorded, in seconds since the epoch.
    """

    name: str | None
    state: str | None
    text: str | None
    reference: str | None
    attempts: int
    settled_at: float
    result: Result | None
    failure: Failure | None


class Salvage:
    """A reader that skips damaged pages: made by `salvaging`, used in one thread. Every call blocks."""

    def __init__(self, database: sqlite3.Connection, size_bytes: int) -> None:
        self._database = database
        self._most = size_bytes // LEAST_BYTES

    @cached_property
    def total(self) -> int | None:
        """The number of questions by the queue's own count; None if the count is unreadable."""
        counts = self._one("SELECT ready, leased, done, dead FROM meta")
        whole = counts is not None and all(isinstance(count, int) and 0 <= count <= self._most for count in counts)
        return sum(counts) if counts is not None and whole else None

    def __iter__(self) -> Iterator[Remains]:
        """Each question with a readable part, in the order of arrival."""
        for low in range(1, self._last + 1, CHUNK):
            high = min(low + CHUNK - 1, self._last)
            questions, bodies, results = (self._read(sql, low, high) for sql in (_QUESTION, _BODY, _RESULT))
            for seq in sorted({*questions, *bodies, *results}):
                yield self._remains(seq, questions.get(seq), bodies.get(seq, ()), results.get(seq))

    def _remains(
        self, seq: int, question: tuple[Any, ...] | None, body: tuple[Any, ...], result: tuple[Any, ...] | None
    ) -> Remains:
        name, state, attempts, settled_at, failure = question or (None, None, None, None, None)
        text, reference = body or (None, None)
        attempt, committed_at, answer = result or (None, None, None)
        number = attempts if isinstance(attempts, int) else attempt
        return Remains(
            _text(name) or self._names.get(seq),
            _text(state),
            _text(text),
            _text(reference),
            number if isinstance(number, int) else 1,
            _moment(settled_at) or _moment(committed_at) or 0.0,
            _decoded(answer, Result),
            _decoded(failure, Failure),
        )

    @cached_property
    def _names(self) -> dict[int, str]:
        """The ids by the index, which lies on other pages than the questions."""
        names: dict[int, str] = {}
        for order in ("ASC", "DESC"):
            try:
                for name, seq in self._database.execute(f"{_NAMES} {order}"):
                    if (known := _text(name)) is not None:
                        names[seq] = known
                break
            except sqlite3.Error:
                continue
        return names

    @cached_property
    def _last(self) -> int:
        """The highest number that a question can have."""
        last = self._one("SELECT last_seq FROM meta")
        if last is not None and isinstance(last[0], int) and last[0] >= (self.total or 0):
            return min(last[0], self._most)
        return self._most

    def _one(self, sql: str) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._database.execute(sql).fetchone()
        except sqlite3.Error:
            return None
        return row

    def _read(self, sql: str, low: int, high: int) -> dict[int, tuple[Any, ...]]:
        """The rows from `low` to `high`, without the rows on unreadable pages."""
        try:
            return {row[0]: row[1:] for row in self._database.execute(sql, (low, high))}
        except sqlite3.Error:
            if low == high:
                return {}
        middle = (low + high) // 2
        return self._read(sql, low, middle) | self._read(sql, middle + 1, high)


@contextmanager
def salvaging(path: Path, folder: Path) -> Iterator[Salvage]:
    """Read the database at `path`, which has no owner, from a copy of it and its log in `folder`. Blocks.

    The first page says where all other pages are, and is the same in every database of ours. If it is damaged, the
    first page of an empty queue replaces it.

    Raises:
        QueueError: the database is of another program or another release.
        OSError: it cannot be copied.
    """
    copy = folder / "salvage.db"
    log = log_of(path)
    try:
        shutil.copyfile(path, copy)
        if log.exists():
            shutil.copyfile(log, log_of(copy))
        if not _has_first_page(copy):
            _replace_first_page(copy)
        _fill_up(copy)
        with closing(sqlite3.connect(copy, isolation_level=None)) as database:
            database.text_factory = bytes
            database.execute("PRAGMA cell_size_check=ON")
            database.execute("PRAGMA query_only=1")
            yield Salvage(database, copy.stat().st_size + (log.stat().st_size if log.exists() else 0))
    finally:
        for left in folder.glob("salvage.db*"):
            left.unlink()


def _has_first_page(copy: Path) -> bool:
    """Whether the first page lists our tables. Raises QueueError if the tables are foreign."""
    _fill_up(copy)
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not tables.issuperset(_TABLES):
                version_of(copy, database)
            return tables.issuperset(_TABLES)
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def _replace_first_page(copy: Path) -> None:
    model = copy.with_name("salvage.db-model")
    connect(model, unclean=False).close()
    first = model.read_bytes()
    page = first[: page_size(first)]
    with copy.open("r+b") as file:
        file.write(page)
        pages = -(-file.seek(0, 2) // len(page))
        file.seek(28)  # the header keeps the number of pages here
        file.write(pages.to_bytes(4))


def _fill_up(copy: Path) -> None:
    """Add zeros for the pages that were cut off: SQLite refuses a file that is shorter than its header says."""
    with copy.open("r+b") as file:
        whole = stated_size(file.read(100))
        size = file.seek(0, 2)
        if size < whole <= 2 * size:
            file.truncate(whole)


def _text(value: object) -> str | None:
    try:
        return value.decode() if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None


def _moment(value: object) -> float | None:
    """Seconds since the epoch, in a year that a date can have."""
    # The queue reads moments through SQLite's JSON, which keeps 15 digits. The same here gives the same bytes in rows.
    return float(f"{value:.15g}") if isinstance(value, float) and 0 < value < LATEST else None


def _decoded(body: object, kind: Callable[..., Any]) -> Any:
    """The result or failure that `body` holds as JSON; None if it is damaged."""
    try:
        parsed = orjson.loads(body) if isinstance(body, bytes) else None
        return kind(**parsed) if isinstance(parsed, dict) else None
    except (ValueError, TypeError):
        return None
