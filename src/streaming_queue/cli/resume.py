"""`stq resume`: go on with a run that was stopped or killed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streaming_queue.cli.run import execute


def resume(
    directory: Annotated[Path, typer.Argument(help="The run's directory.")],
    sets: Annotated[list[str] | None, typer.Option("--set", "-s", help="Any setting, as key.path=value.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON Lines on stdout: a result a line, then the summary.")
    ] = False,
) -> None:
    """Go on with a run that was stopped or killed: answers are kept, the rest is asked."""
    from streaming_queue.config import resume_config
    from streaming_queue.report.run_directory import RunDirectory

    config = resume_config(RunDirectory.open(directory).manifest["config"], directory, sets=sets or ())
    execute(config, json=json)
