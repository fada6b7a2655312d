"""`stq run`: answer a set of questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli.options import (
    Concurrency,
    ConfigPath,
    JsonLines,
    Limit,
    Llm,
    Model,
    ProtocolName,
    RequireAll,
    Sets,
    Workers,
)
from streaming_queue.errors import StreamingQueueError

if TYPE_CHECKING:
    from streaming_queue.config import Config


def run(
    config: ConfigPath = None,
    questions: Annotated[
        str | None,
        typer.Option("--questions", "-q", metavar="PATH", help="JSONL or CSV, also .gz; - reads a pipe. [bundled set]"),
    ] = None,
    protocol: ProtocolName = None,
    workers: Workers = None,
    concurrency: Concurrency = None,
    llm: Llm = None,
    model: Model = None,
    limit: Limit = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="Directory of the run. [runs/<time>-<protocol>]"),
    ] = None,
    sets: Sets = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse input with an unusable line.")] = False,
    require_all: RequireAll = False,
    json: JsonLines = False,
) -> int:
    """Answer a set of questions, each recorded exactly once."""
    from streaming_queue.config import load_config

    flags: dict[str, Any] = {
        "qa.coordinator.data_file": questions,
        "protocol": protocol,
        "qa.worker.count": workers,
        "qa.worker.concurrency": int(concurrency) if concurrency and concurrency.isdigit() else concurrency,
        "core.type": llm,
        "core.name": model,
        "qa.coordinator.limit": limit,
        "output.dir": output,
        "output.strict": strict or None,
        "network.require_all": require_all or None,
    }
    return execute(load_config(config, flags=flags, sets=sets or ()), json=json)


def execute(config: Config, *, json: bool, rows_after: str | None = None) -> int:
    """Run with `config`, print for people or, with `json`, for scripts, and return the exit code.

    With `json`, the rows begin after the cursor `rows_after`; None: at the rows that results.jsonl lacks.
    """
    from streaming_queue.runner.runner_base import RunnerBase, run_async
    from streaming_queue.telemetry.console import Output
    from streaming_queue.telemetry.events import Event, RunFinished
    from streaming_queue.telemetry.json_lines import JsonLines as Printer

    runner = RunnerBase(config, output=Output(json_lines=json))
    if not json:
        return run_async(runner)
    printer = Printer()
    summaries: list[Any] = []

    def keep_summary(event: Event) -> None:
        if isinstance(event, RunFinished):
            summaries.append(event.summary)

    runner.on_row = printer.result
    runner.rows_after = rows_after
    runner.listeners.append(keep_summary)
    code = run_async(runner)
    for summary in summaries:
        printer.summary(summary)
    if printer.failure:
        raise StreamingQueueError(f"standard output: {printer.failure.strerror}; the run's directory has every row")
    return code
