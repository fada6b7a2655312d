"""The ledger of a run: its questions compared with the rows in its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Ledger:
    """`lost` questions have no answer in the results, `recorded_twice` have two rows or two events.

    `re_executions` and `late_duplicates_rejected` are counts of the queue.
    """

    questions: int
    lost: int
    recorded_twice: int
    re_executions: int
    late_duplicates_rejected: int


def examine(asked: Collection[str], events: Mapping[str, int], results: Path, stats: Mapping[str, Any]) -> Ledger:
    """Compare the ids `asked`, and the `events` of answers by id, with the rows in `results`. Blocks.

    `stats` is the run's summary. A question is also lost if its answer had an event and no row, or if it is a dead
    letter.
    """
    rows: Counter[str] = Counter()
    answered: set[str] = set()
    with results.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            rows[row["question_id"]] += 1
            if row["status"] == "success":
                answered.add(row["question_id"])
    twice = {question_id for counts in (rows, events) for question_id, count in counts.items() if count > 1}
    return Ledger(
        questions=len(asked),
        lost=len((set(asked) | set(events)) - answered),
        recorded_twice=len(twice),
        re_executions=int(stats["re_executions"]),
        late_duplicates_rejected=int(stats["late_duplicates_rejected"]),
    )
