"""Remarks on the fields of a source, each made once for all records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from streaming_queue.intake.names import shown

MOST_NAMED = 80
"""Unused fields that remarks name; one more remark reports further fields."""
_MOST_VALUES = 20


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark on a source; `level` is info or warning."""

    level: Literal["info", "warning"]
    text: str


class Remarks:
    """Collects remarks on records. Set `line` to the first line of a record before reading it."""

    def __init__(self, name: str) -> None:
        self.line = 0
        self._name = name
        self._unused: set[str] = set()
        self._unreported: list[str] = []
        self._overflow = False
        self._values: dict[str, _UnusedValue] = {}

    def unused_fields(self, names: Iterable[str]) -> None:
        """Note fields with values that no role uses."""
        for name in names:
            if name in self._unused:
                continue
            if len(self._unused) == MOST_NAMED:
                self._overflow = True
                return
            self._unused.add(name)
            self._unreported.append(name)

    def unused_value(self, text: str) -> None:
        """Note a value of the record that is not used, or is used in part only."""
        value = self._values.get(text)
        if value is None:
            if len(self._values) >= _MOST_VALUES:
                text = "further fields hold values that are not used in full"
            value = self._values.setdefault(text, _UnusedValue(self.line))
        value.count += 1

    def new_remarks(self, *, final: bool = False) -> list[Remark]:
        """The new remarks; at the end (`final`) also with the number of records."""
        remarks = []
        if self._unreported:
            remarks.append(Remark("info", f"{self._name}: not used: {shown(self._unreported, MOST_NAMED)}"))
            self._unreported = []
        if final and self._overflow:
            remarks.append(
                Remark("info", f"{self._name}: over {MOST_NAMED} fields are not used; the others are not named")
            )
            self._overflow = False
        for text, value in self._values.items():
            if value.reported == 0 or (final and value.reported < value.count):
                count = f" (in {value.count:,} records{'' if final else ' so far'})" if value.count > 1 else ""
                remarks.append(Remark("warning", f"{self._name}:{value.line}: {text}{count}"))
                value.reported = value.count
        return remarks


@dataclass(slots=True)
class _UnusedValue:
    line: int
    count: int = 0
    reported: int = 0
