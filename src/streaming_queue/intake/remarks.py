"""Remarks on the fields of a source, each made once for all records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from streaming_queue.intake.names import shown

MOST_NAMED = 80
"""Unused fields of a source that remarks name; one more remark says that there are others."""
_MOST_DOUBTS = 20


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
        self._unsaid: list[str] = []
        self._overflow = False
        self._doubts: dict[str, _Doubt] = {}

    def unused(self, names: Iterable[str]) -> None:
        """Note fields whose values no role takes."""
        for name in names:
            if name in self._unused:
                continue
            if len(self._unused) == MOST_NAMED:
                self._overflow = True
                return
            self._unused.add(name)
            self._unsaid.append(name)

    def doubt(self, text: str) -> None:
        """Note a value of the record that is not used, or not in full."""
        doubt = self._doubts.get(text)
        if doubt is None:
            if len(self._doubts) >= _MOST_DOUBTS:
                text = "further fields hold values that are not used in full"
            doubt = self._doubts.setdefault(text, _Doubt(self.line))
        doubt.count += 1

    def news(self, *, final: bool = False) -> list[Remark]:
        """The new remarks; at the end (`final`) also with the number of records."""
        news = []
        if self._unsaid:
            news.append(Remark("info", f"{self._name}: not used: {shown(self._unsaid, MOST_NAMED)}"))
            self._unsaid = []
        if final and self._overflow:
            news.append(
                Remark("info", f"{self._name}: over {MOST_NAMED} fields are not used; the others are not named")
            )
            self._overflow = False
        for text, doubt in self._doubts.items():
            if doubt.said == 0 or (final and doubt.said < doubt.count):
                often = f" (in {doubt.count:,} records{'' if final else ' so far'})" if doubt.count > 1 else ""
                news.append(Remark("warning", f"{self._name}:{doubt.line}: {text}{often}"))
                doubt.said = doubt.count
        return news


@dataclass(slots=True)
class _Doubt:
    line: int
    count: int = 0
    said: int = 0
