"""The fields of a record that hold the question, its id and the expected answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streaming_queue.intake.names import ID, LOOKED_FOR, QUESTION, REFERENCE, folded, kind_of, shown
from streaming_queue.intake.remarks import Remarks
from streaming_queue.messages import Question

MAX_ID_LENGTH = 512
"""Characters of a question's id."""

_ROLES = (QUESTION, ID, REFERENCE)
_RANKS = {folded(name): (role, rank) for role, names in enumerate(_ROLES) for rank, name in enumerate(names)}


class RecordError(ValueError):
    """A record is unusable; the text says why. `lines` is the number of its lines in the source."""

    lines: int = 1


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of records of one shape: keys of an object or columns of a row, best first.

    `others` are the names of the fields without a role. If a role has several fields, `rivals` are all fields with a
    role: one field of a role is used, and values in its other fields are unused.
    """

    names: Sequence[str]
    question: tuple[Any, ...]
    id: tuple[Any, ...]
    reference: tuple[Any, ...]
    others: tuple[str, ...]
    rivals: tuple[Any, ...]
    _name_of: dict[Any, str] = field(repr=False)

    @classmethod
    def find(cls, names: Sequence[str], keys: Sequence[Any]) -> Fields:
        """The fields among `names`; `keys` are their keys in a record."""
        ranked: tuple[list[tuple[int, Any]], ...] = ([], [], [])
        others = []
        for name, key in zip(names, keys, strict=True):
            if place := _RANKS.get(folded(name)):
                ranked[place[0]].append((place[1], key))
            else:
                others.append(name)
        question, id_, reference = (
            tuple(key for _, key in sorted(each, key=lambda place: place[0])) for each in ranked
        )
        several = max(len(question), len(id_), len(reference)) > 1
        rivals = (*question, *id_, *reference) if several else ()
        return cls(names, question, id_, reference, tuple(others), rivals, dict(zip(keys, names, strict=True)))

    def read(self, record: Any, remarks: Remarks) -> Question:
        """The question in a record of this shape. Raises RecordError."""
        asked = _first(record, self.question)
        text = None if asked is None else record[asked]
        if type(text) is not str:
            if not self.question:
                raise RecordError(f"no question: looked for {LOOKED_FOR}, found {shown(self.names) or 'no field'}")
            if text is None:
                raise RecordError("the question is missing")
            raise RecordError(f"the question is {kind_of(text)}, not text")
        if not text or text.isspace():
            raise RecordError("the question is empty")
        named = _first(record, self.id, "")
        id_ = None if named is None else _id(record[named])
        expected, reference, unusable = self._reference(record, remarks)
        if self.rivals:
            taken = (asked, named, expected, *unusable)
            remarks.unused_fields(
                self._name_of[key] for key in self.rivals if key not in taken and record[key] not in (None, "", [])
            )
        return Question(text, id_, reference)

    def describe(self, record: Any) -> str:
        """The fields in use for this record: `question from 'query', id from 'id', reference from 'answer'`."""
        expected, _, unusable = self._reference(record, Remarks(""))
        free = [key for key in self.reference if key not in unusable]
        roles = (
            ("question", _first(record, self.question), self.question),
            ("id", _first(record, self.id, ""), self.id),
            ("reference", expected, free),
        )
        found = ((role, keys[0] if key is None else key) for role, key, keys in roles if keys)
        return ", ".join(f"{role} from {shown([self._name_of[key]])}" for role, key in found)

    def _reference(self, record: Any, remarks: Remarks) -> tuple[Any, str | None, list[Any]]:
        """The key of the reference and its text, None if there is none, and the keys of unusable values."""
        unusable: list[Any] = []
        for key in self.reference:
            value = record[key]
            if value is None or value == "":
                continue
            if type(value) is str:
                return key, value, unusable
            texts = list(dict.fromkeys(_texts(value)))
            name = f"the reference {shown([self._name_of[key]])}"
            if not texts:
                if value != []:
                    unusable.append(key)
                    remarks.unused_value(f"{name} is {_described(value)}, neither text nor a number: not used")
                continue
            if len(texts) > 1:
                remarks.unused_value(
                    f"{name} holds several answers: the first is the reference, the others are not used"
                )
            elif type(value) is list and any(isinstance(item, dict | list) for item in value):
                remarks.unused_value(f"{name} holds more than text and numbers: that is not used")
            return key, texts[0], unusable
        return None, None, unusable


def _first(record: Any, keys: tuple[Any, ...], empty: str | None = None) -> Any:
    """The first of the keys with a value, neither null nor `empty`; None if there is none."""
    for key in keys:
        value = record[key]
        if value is not None and value != empty:
            return key
    return None


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RecordError(f"the id is {kind_of(value)}, neither text nor a number")
    text = str(value)
    if len(text) > MAX_ID_LENGTH:
        raise RecordError(f"the id has {len(text)} characters, over {MAX_ID_LENGTH}")
    if not text.isprintable() and any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in text):
        raise RecordError("the id has a control character")
    return text


def _texts(value: Any) -> Iterable[str]:
    """Text, number or boolean as JSON writes it; each item of an array."""
    for item in value if type(value) is list else [value]:
        if isinstance(item, bool):
            yield "true" if item else "false"
        elif isinstance(item, str | int) and item != "":
            yield str(item)


def _described(value: Any) -> str:
    """`an object`, `an array of objects`."""
    return kind_of(value) if type(value) is not list else f"an array with {kind_of(value[0])} in it"
