"""What a run has to show for the questions it was given, by its own files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Ledger:
    """`lost` questions have no answer in the results, `recorded_twice` have two rows or were told as answered twice.

    `re_executions` and `late_duplicates_rejected` are the queue's own counts.
    """

    questions: int
    lost: int
    recorded_twice: int
    re_executions: int
    late_duplicates_rejected: int


def examine(asked: Collection[str], told: Mapping[str, int], results: Path, stats: Mapping[str, Any]) -> Ledger:
    """Compare the ids `asked` and how often each was `told` to be answered with the rows in `results`. Blocks.

    `stats` is the run's summary. A question whose answer was told and is not in the results is lost, too, and so is one
    that went to the dead letters.
    """
    rows: Counter[str] = Counter()
    answered: set[str] = set()
    with results.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            rows[row["question_id"]] += 1
            if row["status"] == "success":
                answered.add(row["question_id"])
    twice = {question_id for counts in (rows, told) for question_id, count in counts.items() if count > 1}
    return Ledger(
        questions=len(asked),
        lost=len((set(asked) | set(told)) - answered),
        recorded_twice=len(twice),
        re_executions=int(stats["re_executions"]),
        late_duplicates_rejected=int(stats["late_duplicates_rejected"]),
    )
