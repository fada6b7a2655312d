"""`stq run`: answer a set of questions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Provider(StrEnum):
    """Where answers come from."""

    mock = "mock"
    openai = "openai"


def run(
    config: Annotated[
        Path | None, typer.Argument(help="Configuration file (YAML). Without one, defaults apply.")
    ] = None,
    questions: Annotated[
        str | None, typer.Option("--questions", "-q", help="JSONL or CSV file, .gz too, or - for a pipe. [bundled set]")
    ] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", "-p", help="Name or package.module:Class.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-w", min=1, help="How many workers.")] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Questions at a time per worker.")
    ] = None,
    llm: Annotated[Provider | None, typer.Option(help="Provider of the answers.")] = None,
    model: Annotated[str | None, typer.Option(help="The provider's model.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Only the first N questions.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Directory of this run. [runs/<time>-<protocol>]")
    ] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", "-s", help="Any setting, as key.path=value.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the input for one unusable line.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="JSON Lines on stdout: a result a line, then the summary.")
    ] = False,
) -> None:
    """Answer a set of questions and record every answer exactly once."""
    from streaming_queue.config import load_config

    flags: dict[str, Any] = {
        "qa.coordinator.data_file": questions,
        "protocol": protocol,
        "qa.worker.count": workers,
        "qa.worker.concurrency": concurrency,
        "core.type": llm.value if llm else None,
        "core.name": model,
        "qa.coordinator.limit": limit,
        "output.dir": output,
        "output.strict": strict or None,
    }
    execute(load_config(config, flags=flags, sets=sets or ()), json=json)


def execute(config: Any, *, json: bool) -> None:
    """Run a round and end with its exit code."""
    from streaming_queue.runner.runner_base import RunnerBase, run_async
    from streaming_queue.telemetry.console import Output
    from streaming_queue.telemetry.json_lines import JsonLines

    runner = RunnerBase(config, output=Output(summary=not json))
    if json:
        runner.listeners.append(JsonLines())
    raise typer.Exit(run_async(runner))
