"""What a run acknowledged, written down as it was seen; at the end it is held against what is stored."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from streaming_queue.exit_codes import ExitCode

_STORED = """
SELECT q.qid, q.state, q.attempts, q.losses, r.answer
FROM question q JOIN body b ON b.seq = q.seq LEFT JOIN result r ON r.seq = q.seq ORDER BY q.number
"""


class History:
    """One run in `directory`, over all its processes.

    Whatever happened, `check` is the one verdict: what was acknowledged is stored, nothing is recorded twice, all has
    ended where the run says so, and the command ended as it is documented.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.acknowledged: list[tuple[str, str | None]] = []
        """Question and answer (None: it failed), in the order in which they were first seen."""
        self._seen: dict[str, str | None] = {}

    def look(self) -> int:
        """Write down the rows that are there by now; how many ends are acknowledged."""
        path = self.directory / "results.jsonl"
        content = path.read_bytes() if path.exists() else b""
        return self.saw(content.rpartition(b"\n")[0].decode().splitlines())

    def saw(self, lines: list[str]) -> int:
        """Write down rows, of `results.jsonl` or of standard output; how many ends are acknowledged."""
        for row in map(json.loads, lines):
            if row.get("type") == "summary":
                continue
            name, answer = row["question_id"], row["answer"]
            if name not in self._seen:
                self.acknowledged.append((name, answer))
                self._seen[name] = answer
            assert self._seen[name] == answer, f"{name} was acknowledged with another answer before"
        return len(self.acknowledged)

    def replayed(self) -> None:
        """Dead letters went back: that they failed was not the last word."""
        self.acknowledged = [(name, answer) for name, answer in self.acknowledged if answer is not None]
        self._seen = dict(self.acknowledged)

    def check(self, code: int, *, expected: int = ExitCode.OK, count: int | None = None) -> dict[str, Any]:
        """The verdict on a run of the questions q0 .. q<count - 1> whose last command ended with `code`.

        Returns the figures of its record: the columns of `meta`.
        """
        assert code == expected, f"exit code {code}"
        assert code in set(ExitCode)
        self.look()
        with closing(sqlite3.connect(self.directory / "queue.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            stored = database.execute(_STORED).fetchall()
            cursor = database.execute("SELECT * FROM meta")
            figures = dict(zip((column[0] for column in cursor.description), cursor.fetchone(), strict=True))
        answers = {name: answer for name, _, _, _, answer in stored}
        states = Counter(state for _, state, _, _, _ in stored)
        assert len(answers) == len(stored)
        for name, answer in self.acknowledged:
            assert answers[name] == answer, f"{name} was acknowledged and is not stored so"
        assert (states["done"], states["dead"]) == (figures["done"], figures["dead"])
        assert states["done"] == sum(answer is not None for answer in answers.values())

        rows = [json.loads(line) for line in (self.directory / "results.jsonl").read_text().splitlines()]
        ended = [(name, answer) for name, state, _, _, answer in stored if state in {"done", "dead"}]
        assert [(row["question_id"], row["answer"]) for row in rows] == ended, "the file of rows is not the record"

        if code in {ExitCode.OK, ExitCode.SOME_FAILED}:
            assert set(states) <= {"done", "dead"}, "it says that it is done, and questions are left"
            assert (code == ExitCode.SOME_FAILED) == bool(states["dead"])
            assert count is None or set(answers) == {f"q{number}" for number in range(count)}
        return figures
