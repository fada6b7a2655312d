"""The names of fields, and the words for names and values in messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

QUESTION = ("q", "question", "query", "problem", "problem_statement", "instruction", "input", "prompt", "text")
ID = (
    *("id", "question_id", "qid", "uid", "unique_id"),
    *("task_id", "problem_id", "query_id", "example_id", "instance_id"),
)
REFERENCE = (
    *("reference", "reference_answer", "final_answer", "correct_answer", "best_answer", "gold_answer"),
    *("ground_truth", "answer", "expected", "expected_answer", "expected_output", "target", "gold", "ideal", "answers"),
    *("correct_answers", "answer_key", "label", "canonical_solution", "solution", "output"),
)
"""Names of fields, best first. Case, spaces, underscores and hyphens do not count."""

LOOKED_FOR = f"{', '.join(QUESTION[:-1])} or {QUESTION[-1]}"

_APART = re.compile(r"[\s_-]+")
_NAMES_SHOWN = 20
_NAME_LENGTH_SHOWN = 40
_KINDS = {str: "text", bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}


def folded(name: str) -> str:
    """A field's name without the characters that do not count."""
    return _APART.sub("", name).lower()


def kind_of(value: Any) -> str:
    """The kind of a JSON value, for messages."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def shown(names: Iterable[str], most: int = _NAMES_SHOWN) -> str:
    """At most `most` field names for messages, quoted, escaped and cut to a fixed length."""
    listed = list(names)
    parts = [repr(name if len(name) <= _NAME_LENGTH_SHOWN else name[:_NAME_LENGTH_SHOWN] + "...") for name in listed]
    more = len(listed) - most
    return ", ".join(parts[:most]) + (f" and {more} more" if more > 0 else "")
