"""`stq results`: the rows of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streaming_queue.cli.options import After, RunPath
from streaming_queue.cli.text import print_error
from streaming_queue.exit_codes import ExitCode

if TYPE_CHECKING:
    from streaming_queue.messages import Outcome

_ENDS = {"stopped": "stopped", "failed": "ended by an error", "killed": "killed"}

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that a spreadsheet takes for a formula (OWASP, CSV Injection)."""


def results(
    directory: RunPath,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="Format of the rows.")] = "jsonl",
    after: After = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print further rows until the run has ended.")] = False,
) -> int:
    """Print the rows of a run.

    With --after or --follow, a row can also say that a dead letter was replayed or purged. --follow ends with 0 if the
    run is done, and with 75 if it was stopped or killed and can be resumed.
    """
    from streaming_queue.control.following import RowFollower
    from streaming_queue.report.run_directory import RunDirectory

    follower = RowFollower(RunDirectory.open(directory), after)
    pages = follower.follow() if follow else follower.recorded()
    (_print_csv if form == "csv" else _print_json_lines)(pages)
    if follower.state in (None, "done"):
        return ExitCode.OK
    print_error(f"the run was {_ENDS[follower.state]}; go on with: stq resume {directory}")
    return ExitCode.STOPPED


def _print_json_lines(pages: Iterable[list[Outcome]]) -> None:
    from streaming_queue.telemetry.json_lines import encode_line

    for page in pages:
        for outcome in page:
            sys.stdout.buffer.write(encode_line(outcome.row()))
        sys.stdout.buffer.flush()


def _print_csv(pages: Iterable[list[Outcome]]) -> None:
    import csv

    from streaming_queue.messages import Outcome, Question

    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow(Outcome(0, Question(""), 0, 0.0).row())
    for page in pages:
        for outcome in page:
            writer.writerow([_cell(value) for value in outcome.row().values()])
        sys.stdout.flush()


def _cell(value: Any) -> Any:
    """A value for a spreadsheet: nested ones as JSON; text that looks like a formula gets a quote before it."""
    from streaming_queue.telemetry.json_lines import encode

    if isinstance(value, Mapping):
        value = encode(value).decode()
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value
