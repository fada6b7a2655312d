"""`stq failstorm`: how a run over a protocol recovers when workers fail under load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from streaming_queue.cli import completion
from streaming_queue.cli.options import AsJson
from streaming_queue.cli.text import columns, echo, echo_json, print_error
from streaming_queue.exit_codes import ExitCode
from streaming_queue.failstorm.plan import Fault, Plan

PROTOCOLS_A_TABLE = 4


def failstorm(
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            "-p",
            metavar="NAME",
            help="May be repeated. [all installed that have a socket]",
            autocompletion=completion.protocols,
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=2, help="Worker processes.")] = 8,
    kill: Annotated[int, typer.Option("--kill", min=1, help="Number of workers that each fault hits.")] = 3,
    every: Annotated[
        float, typer.Option("--every", min=0.5, metavar="SECONDS", help="Least time between two faults.")
    ] = 5.0,
    cycles: Annotated[int, typer.Option("--cycles", min=1, help="Number of faults.")] = 30,
    fault: Annotated[Fault, typer.Option("--fault", help="Kind of the fault.")] = Fault.kill,
    as_json: AsJson = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Directory for plots and runs. [runs/<time>-failstorm]"),
    ] = None,
) -> int:
    """Fail workers under load and measure the recovery.

    It ends with 4 if a target of docs/reliability.md is missed.
    """
    from streaming_queue.failstorm.storms import run_storms
    from streaming_queue.failstorm.summary import misses, rows
    from streaming_queue.runner.event_loop import run_fast
    from streaming_queue.telemetry.console import Output

    plan = Plan(workers=workers, kill=kill, every_s=every, cycles=cycles, fault=fault)
    summaries = run_fast(run_storms(protocol or [], plan, output, Output()))
    missed = {summary.protocol: misses(summary, fault) for summary in summaries}
    if as_json:
        entries = {each.protocol: each.entry() | {"missed": missed[each.protocol]} for each in summaries}
        echo_json(json.dumps(entries))
    else:
        tables = (summaries[at : at + PROTOCOLS_A_TABLE] for at in range(0, len(summaries), PROTOCOLS_A_TABLE))
        echo("\n\n".join(columns(rows(table)) for table in tables))
    for name, texts in missed.items():
        for text in texts:
            print_error(f"{name}: missed: {text}")
    return ExitCode.TARGET_MISSED if any(missed.values()) else ExitCode.OK
