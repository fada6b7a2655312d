"""The output of the command line. Commands print only through it, so that a terminal obeys no foreign text."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any, NamedTuple

import typer

from streaming_queue.masking import masked
from streaming_queue.telemetry.text import json_visible, one_line, visible


class Coloured(NamedTuple):
    """Text in a colour, given as an SGR code such as `1;31`; plain without a terminal, or if NO_COLOR is set."""

    text: str
    code: str


def echo(*pieces: str | Coloured, nl: bool = True) -> None:
    """Print text. Control characters become escapes, except line breaks and tabs."""
    typer.echo("".join(_paint(piece, sys.stdout) for piece in pieces), nl=nl)


def echo_answer(text: str, *, nl: bool = True) -> None:
    """Print an answer: to a terminal as `echo` does, to a pipe or a file unchanged."""
    typer.echo(
        visible(text) if sys.stdout.isatty() else text, nl=nl, color=True
    )  # otherwise a pipe would lose escape codes


def echo_json(text: str) -> None:
    """Print JSON as UTF-8. A character that a terminal obeys becomes a JSON escape; its value stays the same."""
    typer.echo(json_visible(text).encode())


def print_json(document: Any) -> None:
    """Print `document` as indented JSON."""
    echo_json(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns, two blanks apart. A cell is one line; the last column has no padding."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def print_error(message: str, details: Iterable[str] = ()) -> None:
    """Write `error: message` as one line to stderr, and each of `details` as a line below it.

    The label is red if stderr is a terminal and NO_COLOR is not set.
    """
    if sys.stderr is None:  # closed; `print` would take stdout in its place
        return
    label = _paint(Coloured("error:", "1;31"), sys.stderr)
    with contextlib.suppress(OSError):  # stderr was closed
        print(label, one_line(masked(message)), file=sys.stderr, flush=True)  # noqa: T201
        for detail in details:
            print(f"  {one_line(detail)}", file=sys.stderr, flush=True)  # noqa: T201


def print_traceback(text: str) -> None:
    """Write a traceback to stderr."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # stderr was closed
            print(visible(masked(text)), end="", file=sys.stderr)  # noqa: T201


def _paint(piece: str | Coloured, stream: IO[str]) -> str:
    if isinstance(piece, str):
        return visible(piece)
    text = visible(piece.text)
    return f"\x1b[{piece.code}m{text}\x1b[0m" if stream.isatty() and not os.environ.get("NO_COLOR") else text
