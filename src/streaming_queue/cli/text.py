"""Text for a terminal: hostile characters shown, not obeyed; rows in columns; the one form of an error."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import IO

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""`text` on one line, with control, direction and other invisible characters as `\n`, `\x1b`, `\u202e`."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _HARMFUL else char for char in text
    )


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns, two blanks apart; the last column is as wide as it is. Cells are made printable."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def is_coloured(stream: IO[str]) -> bool:
    """Whether escape codes are welcome: on a terminal, unless NO_COLOR is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def print_error(message: str) -> None:
    """Write `error: message` as one line to stderr, red where that is a terminal and NO_COLOR is not set."""
    if sys.stderr is None:  # closed; `print` would take stdout in its place
        return
    label = "\x1b[1;31merror:\x1b[0m" if is_coloured(sys.stderr) else "error:"
    with contextlib.suppress(OSError):  # stderr is gone: nobody is left to tell
        print(label, printable(message), file=sys.stderr, flush=True)  # noqa: T201
