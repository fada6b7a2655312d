"""What can still be read of a run, exported: rows of the questions that ended, and the questions that are left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from streaming_queue.errors import ConfigError, QueueError
from streaming_queue.messages import Outcome, Question
from streaming_queue.queue.lock import refuse_owned
from streaming_queue.queue.salvage import Remains, salvaging
from streaming_queue.report.files import replacing
from streaming_queue.report.run_directory import QUEUE_FILE, RunDirectory
from streaming_queue.telemetry.json_lines import encode_line

RESULTS_FILE = "results.jsonl"
QUESTIONS_FILE = "questions.jsonl"
_ENDED = ("done", "dead")


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was exported. `answered` and `failed` have rows, `from_rows` of them only in the run's own results.jsonl.

    `open` had not ended. `unknown` may have: their end cannot be read, so they are to be asked again like those open.
    `lost` cannot even be asked again; None where the queue's own count is unreadable, and so nobody knows.
    """

    answered: int = 0
    failed: int = 0
    from_rows: int = 0
    open: int = 0
    unknown: int = 0
    lost: int | None = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.unknown == 0 and self.lost == 0


def repair(source: Path, target: Path) -> Repaired:
    """Export what can be read of the run in `source` to the new directory `target`; `source` is not changed. Blocks.

    The queue's database is the record. A row of results.jsonl counts where the end of its question cannot be read.

    Raises:
        ConfigError: there is no queue in `source`, somebody is at work on it, a file in it is a link, or `target` has
            files.
        QueueError: the database is another program's, or another release's.
    """
    RunDirectory(source, {}).refuse_links()
    database = source / QUEUE_FILE
    if not database.is_file():
        raise ConfigError(f"{source} is not the directory of a run: it has no {QUEUE_FILE}")
    try:
        refuse_owned(database)
    except QueueError as error:
        raise ConfigError(str(error)) from error
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise ConfigError(f"{target} is not empty; name a new directory with -o")
        with ExitStack() as stack:
            results = stack.enter_context(replacing(target / RESULTS_FILE))
            questions = stack.enter_context(replacing(target / QUESTIONS_FILE))
            salvage = stack.enter_context(salvaging(database.resolve(), target))
            rows = stack.enter_context(_Rows.of(source / RESULTS_FILE))
            export = _Export(results, questions, rows)
            for remains in salvage:
                export.take(remains)
            return export.finish(salvage.total)
    except OSError as error:
        raise ConfigError(f"{error.filename or target}: cannot be read or written: {error.strerror}") from error


class _Export:
    """The two files as they grow, and what is counted of them."""

    def __init__(self, results: BinaryIO, questions: BinaryIO, rows: _Rows) -> None:
        self._results = results
        self._questions = questions
        self._rows = rows
        self._counts = Repaired()
        self._nameless: list[Remains] = []

    def take(self, remains: Remains) -> None:
        """Write a question where it belongs; one whose id cannot be read waits for the end."""
        if remains.name is None:
            self._nameless.append(remains)
        elif remains.result or remains.failure:
            self._rows.drop(remains.name)
            self._end(remains)
        elif remains.state not in (None, *_ENDED):
            self._rows.drop(remains.name)  # its end was taken back
            self._ask(remains)
        elif (row := self._rows.pop(remains.name)) is not None:
            self._copy(row)
        else:
            self._ask(remains)

    def finish(self, total: int | None) -> Repaired:
        """Write what no question of the database laid claim to; `total` is how many questions there should be."""
        left = list(self._rows.rest())
        ends = {(row.get("answer"), row.get("timestamp")) for row in left}
        texts = {row.get("question") for row in left}
        for remains in self._nameless:
            if remains.result or remains.failure:
                row = _row(remains)
                if (row["answer"], row["timestamp"]) not in ends:
                    self._end(remains)
            elif remains.text not in texts:
                self._ask(remains)
        for row in left:
            self._copy(row)
        counts = self._counts
        found = counts.answered + counts.failed + counts.open + counts.unknown
        return replace(counts, lost=None if total is None else max(total - found, 0))

    def _end(self, remains: Remains) -> None:
        self._results.write(encode_line(_row(remains)))
        self._count("answered" if remains.result else "failed")

    def _copy(self, row: Mapping[str, Any]) -> None:
        self._results.write(encode_line(row))
        self._count("answered" if row.get("status") == "success" else "failed")
        self._count("from_rows")

    def _ask(self, remains: Remains) -> None:
        if remains.text is None:
            return
        question = {"id": remains.name, "question": remains.text, "reference": remains.reference}
        self._questions.write(encode_line({key: value for key, value in question.items() if value is not None}))
        self._count("unknown" if remains.state in (None, *_ENDED) else "open")

    def _count(self, figure: str) -> None:
        self._counts = replace(self._counts, **{figure: getattr(self._counts, figure) + 1})


def _row(remains: Remains) -> dict[str, Any]:
    question = Question(remains.text or "", remains.name, remains.reference)
    outcome = Outcome(0, question, remains.attempts, remains.settled_at, remains.result, remains.failure)
    return outcome.row() | {"question": remains.text}


class _Rows:
    """The run's results.jsonl by the ids of its rows, of which it keeps the places in the file only."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file
        self._places: dict[str, int] = {}
        place = 0
        for line in file or ():
            row = _parsed(line)
            if row is not None:
                self._places[row["question_id"]] = place
            place += len(line)

    @classmethod
    def of(cls, path: Path) -> _Rows:
        """Those of the file at `path`; none where there is no such file."""
        return cls(path.open("rb") if path.exists() else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def drop(self, name: str) -> None:
        """The row of this question is not needed."""
        self._places.pop(name, None)

    def pop(self, name: str) -> dict[str, Any] | None:
        """The row of this question, which is then not among the rest."""
        place = self._places.pop(name, None)
        return None if place is None else self._at(place)

    def rest(self) -> Iterator[dict[str, Any]]:
        """The rows that nobody asked for."""
        for place in self._places.values():
            if (row := self._at(place)) is not None:
                yield row

    def _at(self, place: int) -> dict[str, Any] | None:
        if self._file is None:
            return None
        self._file.seek(place)
        return _parsed(self._file.readline())


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The row; None for a line that is cut off or damaged."""
    try:
        row = orjson.loads(line) if line.endswith(b"\n") else None
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("question_id"), str) else None
