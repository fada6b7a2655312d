"""`stq results`: the rows of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import typer

from streaming_queue.cli.options import RunPath

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that a spreadsheet takes for a formula (OWASP, CSV Injection)."""


def results(
    directory: RunPath,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="Format of the rows.")] = "jsonl",
) -> None:
    """Print the rows of a run."""
    from streaming_queue.queue.inspection import outcomes
    from streaming_queue.report.run_directory import RunDirectory

    path = RunDirectory.open(directory).queue_path
    rows = (outcome.row() for outcome in outcomes(path)) if path.exists() else iter(())
    (_print_csv if form == "csv" else _print_json_lines)(rows)


def _print_json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    from streaming_queue.telemetry.json_lines import encode_line

    for row in rows:
        sys.stdout.buffer.write(encode_line(row))
    sys.stdout.buffer.flush()


def _print_csv(rows: Iterable[Mapping[str, Any]]) -> None:
    import csv

    from streaming_queue.messages import Outcome, Question

    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow(Outcome(0, Question(""), 0, 0.0).row())
    for row in rows:
        writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Any) -> Any:
    """A value for a spreadsheet: nested ones as JSON; text that looks like a formula gets a quote before it."""
    from streaming_queue.telemetry.json_lines import encode

    if isinstance(value, Mapping):
        value = encode(value).decode()
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value
