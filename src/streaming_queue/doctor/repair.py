"""Export the readable part of a run: rows of the ended questions, and the remaining questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

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
    """Numbers of exported questions. `answered` and `failed` have rows, `from_rows` of them only in results.jsonl.

    `open` questions had not ended. `unknown` questions may have: their end is unreadable, so they must be asked again
    like the open ones. `lost` questions cannot be asked again; None if the queue's own count is unreadable. `nameless`
    ones are exported without their id, which is unreadable.
    """

    answered: int = 0
    failed: int = 0
    from_rows: int = 0
    open: int = 0
    unknown: int = 0
    lost: int | None = 0
    nameless: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.unknown == 0 and self.lost == 0 and self.nameless == 0


def repair(source: Path, target: Path) -> Repaired:
    """Export the readable part of the run in `source` to the new directory `target`; `source` does not change. Blocks.

    The queue's database is the record. A row of results.jsonl counts if the database lacks the end of its question.

    Raises:
        ConfigError: `source` has no queue, is in use or contains a link, or `target` has files.
        QueueError: the database belongs to another program or another release.
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
            own = source / RESULTS_FILE
            rows = stack.enter_context(own.open("rb") if own.exists() else BytesIO())
            export = _Export(results, questions, _Rows(rows))
            for remains in salvage:
                export.take(remains)
            return export.finish(salvage.total)
    except OSError as error:
        raise ConfigError(f"{error.filename or target}: cannot be read or written: {error.strerror}") from error


class _Export:
    """The two files, and the counts of their lines."""

    def __init__(self, results: BinaryIO, questions: BinaryIO, rows: _Rows) -> None:
        self._results = results
        self._questions = questions
        self._rows = rows
        self._counts: Counter[str] = Counter()
        self._nameless: list[Remains] = []
        self._nameless_count = 0

    def take(self, remains: Remains) -> None:
        """Write a question to its file. A question without a readable id waits for `finish`."""
        if remains.name is None:
            self._nameless.append(remains)
        elif remains.result or remains.failure:
            self._rows.drop(remains.name)
            self._end(remains)
        elif remains.state not in (None, *_ENDED):
            self._rows.drop(remains.name)  # its end was reverted
            self._ask(remains)
        elif (row := self._rows.pop(remains.name)) is not None:
            self._copy(row)
        else:
            self._ask(remains)

    def finish(self, total: int | None) -> Repaired:
        """Write the remaining rows and questions; `total` is the queue's own number of questions."""
        left = list(self._rows.rest())
        ends = {(row.get("answer"), row.get("timestamp")) for row in left}
        texts = {row.get("question") for row in left}
        for remains in self._nameless:
            if remains.result or remains.failure:
                row = _row(remains)
                if (row["answer"], row["timestamp"]) not in ends:
                    self._end(remains)
                    self._nameless_count += 1
            elif remains.text not in texts:
                self._ask(remains)
                self._nameless_count += remains.text is not None
        for row in left:
            self._copy(row)
        found = self._counts.total() - self._counts["from_rows"]
        lost = None if total is None else max(total - found, 0)
        return Repaired(**self._counts, lost=lost, nameless=self._nameless_count)

    def _end(self, remains: Remains) -> None:
        self._results.write(encode_line(_row(remains)))
        self._counts["answered" if remains.result else "failed"] += 1

    def _copy(self, row: Mapping[str, Any]) -> None:
        self._results.write(encode_line({**row, "cursor": None, "supersedes": None}))  # an export has no queue
        self._counts["answered" if row.get("status") == "success" else "failed"] += 1
        self._counts["from_rows"] += 1

    def _ask(self, remains: Remains) -> None:
        if remains.text is None:
            return
        question = {"id": remains.name, "question": remains.text, "reference": remains.reference}
        self._questions.write(encode_line({key: value for key, value in question.items() if value is not None}))
        self._counts["unknown" if remains.state in (None, *_ENDED) else "open"] += 1


def _row(remains: Remains) -> dict[str, Any]:
    question = Question(remains.text or "", remains.name, remains.reference)
    outcome = Outcome(0, question, remains.attempts, remains.settled_at, remains.result, remains.failure)
    return outcome.row() | {"question": remains.text}


class _Rows:
    """Rows of results.jsonl by question id. It keeps only their places in the file."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._places: dict[str, int] = {}
        place = 0
        for line in file:
            if (row := _parsed(line)) is not None:
                self._places[row["question_id"]] = place
            place += len(line)

    def drop(self, name: str) -> None:
        """Forget the row of this question."""
        self._places.pop(name, None)

    def pop(self, name: str) -> dict[str, Any] | None:
        """The row of this question; `rest` no longer yields it."""
        place = self._places.pop(name, None)
        return None if place is None else self._at(place)

    def rest(self) -> Iterator[dict[str, Any]]:
        """The rows that were neither dropped nor popped."""
        for place in self._places.values():
            if (row := self._at(place)) is not None:
                yield row

    def _at(self, place: int) -> dict[str, Any] | None:
        self._file.seek(place)
        return _parsed(self._file.readline())


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The row of a line; None if the line is cut off or damaged."""
    try:
        row = orjson.loads(line) if line.endswith(b"\n") else None
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("question_id"), str) else None
