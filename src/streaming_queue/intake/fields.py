"""Which field of a record is the question, which its id, which the expected answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from streaming_queue.messages import Question

QUESTION = ("q", "question", "query", "input", "prompt", "text")
ID = ("id", "question_id", "qid")
REFERENCE = ("reference", "answer", "expected", "target")
"""The names a field may have, in any case, best first."""

MAX_ID_LENGTH = 512
"""Characters of a question's id."""

LOOKED_FOR = f"{', '.join(QUESTION[:-1])} or {QUESTION[-1]}"

_NAMES_SHOWN = 20
_NAME_LENGTH_SHOWN = 40
_KINDS = {str: "text", bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}


class RecordError(ValueError):
    """A record cannot be used; the text says why. `lines` is how many lines of the source it took."""

    lines: int = 1


def kind_of(value: Any) -> str:
    """What a JSON value is, for people."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def shown(names: Iterable[str]) -> str:
    """Field names for people: quoted, escaped, cut to a sensible length."""
    listed = list(names)
    parts = [repr(name if len(name) <= _NAME_LENGTH_SHOWN else name[:_NAME_LENGTH_SHOWN] + "...") for name in listed]
    more = len(listed) - _NAMES_SHOWN
    return ", ".join(parts[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class Fields:
    """Where records of one shape keep what matters: keys of an object or columns of a row, best first."""

    names: Sequence[str]
    question: tuple[Any, ...]
    id: tuple[Any, ...]
    reference: tuple[Any, ...]

    @classmethod
    def find(cls, names: Sequence[str], keys: Sequence[Any]) -> Fields:
        """The fields among `names`; `keys` says how to get at each of them."""
        folded = [name.strip().lower() for name in names]

        def named(wanted: Sequence[str]) -> tuple[Any, ...]:
            return tuple(key for want in wanted for name, key in zip(folded, keys, strict=True) if name == want)

        return cls(names, named(QUESTION), named(ID), named(REFERENCE))

    def read(self, record: Any) -> Question:
        """The question in a record of this shape. Raises RecordError."""
        text = _first(record, self.question)
        if type(text) is not str:
            if not self.question:
                raise RecordError(f"no question: looked for {LOOKED_FOR}, found {shown(self.names) or 'no field'}")
            if text is None:
                raise RecordError("the question is missing")
            raise RecordError(f"the question is {kind_of(text)}, not text")
        if not text or text.isspace():
            raise RecordError("the question is empty")
        return Question(text, _id(_first(record, self.id)), _reference(record, self.reference))

    def describe(self, name_of: Any) -> str:
        """`question from 'query', id from 'id', reference from 'answer'`, those that there are."""
        roles = (("question", self.question), ("id", self.id), ("reference", self.reference))
        return ", ".join(f"{role} from {shown([name_of(keys[0])])}" for role, keys in roles if keys)


def _first(record: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        value = record[key]
        if value is not None:
            return value
    return None


def _id(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RecordError(f"the id is {kind_of(value)}, neither text nor a number")
    text = str(value)
    if len(text) > MAX_ID_LENGTH:
        raise RecordError(f"the id has {len(text)} characters, over {MAX_ID_LENGTH}")
    if not text.isprintable() and any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in text):
        raise RecordError("the id has a control character")
    return text


def _reference(record: Any, keys: tuple[Any, ...]) -> str | None:
    for key in keys:
        value = record[key]
        if value and isinstance(value, str):
            return value
    return None
