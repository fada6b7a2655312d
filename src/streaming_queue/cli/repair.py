"""`stq repair`: export the readable part of a run whose database is damaged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streaming_queue.cli.options import AsJson, RunPath
from streaming_queue.cli.text import columns, echo, print_json
from streaming_queue.exit_codes import ExitCode

if TYPE_CHECKING:
    from streaming_queue.doctor.repair import Repaired


def repair(
    directory: RunPath,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="NEW", help="New directory. [RUN-repaired]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Export the rows and questions that a damaged run still has.

    RUN is not changed. Exit 0: nothing is missing; 2: RUN is no run or in use, or NEW is not empty; 3: some is missing.
    """
    from streaming_queue.doctor.repair import repair as export

    target = output or directory.with_name(f"{directory.resolve().name}-repaired")
    repaired = export(directory, target)
    if as_json:
        print_json({"ok": repaired.is_whole, "directory": str(target), **asdict(repaired)})
    else:
        echo(_page(repaired, target))
    return ExitCode.OK if repaired.is_whole else ExitCode.SOME_FAILED


def _page(repaired: Repaired, target: Path) -> str:
    """A line for each figure, and the next command."""
    from streaming_queue.doctor.repair import QUESTIONS_FILE, RESULTS_FILE

    results, questions = str(target / RESULTS_FILE), str(target / QUESTIONS_FILE)
    lost = "unknown" if repaired.lost is None else f"{repaired.lost:,}"
    rows = [
        ("answered", f"{repaired.answered:,}", results),
        ("failed", f"{repaired.failed:,}", results),
        ("open", f"{repaired.open:,}", questions),
        ("end unreadable", f"{repaired.unknown:,}", f"{questions}, to be asked again"),
        ("lost", lost, "neither question nor answer can be read"),
    ]
    page = columns(rows)
    if repaired.from_rows:
        page += f"\n{repaired.from_rows:,} of the rows are from the run's own {RESULTS_FILE}"
    if repaired.nameless:
        page += f"\n{repaired.nameless:,} are exported without their id, which is unreadable"
    if repaired.open or repaired.unknown:
        page += f"\nto ask the remaining questions: stq run -q {questions}"
    return page
