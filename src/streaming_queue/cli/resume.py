"""`stq resume`: go on with a run that was stopped or killed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streaming_queue.cli.options import JsonLines, Sets
from streaming_queue.cli.run import execute


def resume(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The run's directory.", show_default=False)],
    sets: Sets = None,
    json: JsonLines = False,
) -> int:
    """Go on with a run that was stopped or killed.

    Answers are kept, the rest is asked.
    """
    from streaming_queue.config import resume_config
    from streaming_queue.report.run_directory import RunDirectory

    manifest = RunDirectory.open(directory).manifest
    return execute(resume_config(manifest["config"], directory, sets=sets or ()), json=json)
