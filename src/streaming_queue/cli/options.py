"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from streaming_queue.cli import completion

ConfigPath = Annotated[
    Path | None,
    typer.Argument(metavar="CONFIG", help="YAML file of settings. [the defaults]", show_default=False),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Any setting, e.g. -s qa.worker.count=8; may be repeated.",
        autocompletion=completion.keys,
    ),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        "-p",
        help="Name (see `stq protocol list`) or package.module:Class.",
        autocompletion=completion.protocols,
    ),
]
RunPath = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="Directory of the run.", show_default=False, autocompletion=completion.runs),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Follow settings of the run that act on this machine and lack your mark.")
]
Workers = Annotated[int | None, typer.Option("--workers", "-w", help="Number of workers to start.")]
Concurrency = Annotated[
    str | None, typer.Option("--concurrency", "-c", metavar="N|auto", help="Questions in flight at each worker.")
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", help="Take the first N questions only.")]
Llm = Annotated[Literal["mock", "openai"] | None, typer.Option("--llm", help="Provider of the answers.")]
Model = Annotated[str | None, typer.Option("--model", help="Model of the provider.")]
RequireAll = Annotated[bool, typer.Option("--require-all", help="Begin only if every worker answers.")]
After = Annotated[
    str | None,
    typer.Option(
        "--after", metavar="CURSOR", help="Print the rows after this `cursor`; '' for all.", show_default=False
    ),
]
SourceChanged = Annotated[
    Literal["append", "restart"] | None,
    typer.Option(
        "--source-changed",
        help="If lines read before are changed: keep all rows and read on, or begin anew.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON Lines: each result, then the summary.")]
