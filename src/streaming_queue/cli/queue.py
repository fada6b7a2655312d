"""`stq queue`: how a run stands, and its steering wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli.options import AsJson, RunPath
from streaming_queue.cli.steering import on_run, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streaming_queue.control.base import RunControl

app = typer.Typer(name="queue", help="Look at the queue of a run and steer it.", rich_markup_mode=None)


@app.command()
def stats(directory: RunPath, as_json: AsJson = False) -> None:
    """Print how many questions are in which state, and why those failed that did; of any run, going on or not."""

    async def ask(run: RunControl) -> Mapping[str, Any]:
        return await run.stats()

    _show(on_run(directory, ask), as_json=as_json)


@app.command()
def pause(directory: RunPath, as_json: AsJson = False) -> None:
    """Have a run hand out nothing more until `resume`; what is in flight ends."""

    async def command(run: RunControl) -> Mapping[str, Any]:
        return await run.pause()

    _show(on_run(directory, command), as_json=as_json)


@app.command()
def resume(directory: RunPath, as_json: AsJson = False) -> None:
    """Have a run that was paused go on; one that was stopped goes on with `stq resume`."""

    async def command(run: RunControl) -> Mapping[str, Any]:
        return await run.resume()

    _show(on_run(directory, command), as_json=as_json)


@app.command()
def drain(
    directory: RunPath,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a run end as SIGTERM does: what is in flight finishes, `stq resume` goes on with the rest."""
    from streaming_queue.control.reach import drained

    async def command(run: RunControl) -> Mapping[str, Any]:
        told = await run.drain()
        if wait:
            await drained(directory)
        return told

    told = on_run(directory, command)
    if wait:
        stats(directory, as_json=as_json)
    else:
        _show(told, as_json=as_json)


def _show(told: Mapping[str, Any], *, as_json: bool) -> None:
    from streaming_queue.cli.text import columns, echo

    if as_json:
        print_json(told)
        return
    counts, history, intake = told["counts"], told["stats"], told["intake"]
    owner = f", process {told['pid']}" if told["pid"] else ""
    ended = f"{counts['done']:,} answered, {counts['dead']:,} failed"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in told["reasons"].items())
    late = history["late_duplicates_rejected"]
    rows = [
        ("run", f"{told['run_id']}: {told['state']}{owner}"),
        ("questions", f"{ended}, {counts['leased']:,} leased, {counts['ready']:,} ready, of {counts['total']:,}"),
        ("failed", reasons or "-"),
        ("asked", f"{history['re_executions']:,} again, {late:,} answers too late, {history['losses']:,} workers lost"),
        (
            "source",
            f"{intake['questions']:,} read{'' if intake['complete'] else ' so far'}, {intake['skipped']:,} skipped",
        ),
    ]
    echo(columns(rows))
