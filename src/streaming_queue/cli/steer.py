"""`stq pause` and `stq stop`, `stq queue` with the older names, and the helper that connects commands to a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streaming_queue.cli.help import epilog
from streaming_queue.cli.options import AsJson, RunPath
from streaming_queue.cli.text import columns, echo, print_json
from streaming_queue.telemetry.text import NONE, one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from streaming_queue.control.base import RunControl

T = TypeVar("T")

PAGE = "docs/control.md"
LONGEST_REASON = 600


def pause(directory: RunPath, as_json: AsJson = False) -> None:
    """Pause a run: hand out no more questions.

    Questions in flight end. `stq resume` hands questions out again.
    """
    show_state(on_run(directory, lambda run: run.pause()), as_json=as_json)


def stop(
    directory: RunPath,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the run has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop a run: finish the questions in flight, keep the rest.

    The run ends with 75. `stq resume` goes on with it.
    """
    import asyncio

    from streaming_queue.control.open_control import drained

    state = on_run(directory, lambda run: run.drain())
    if wait:
        asyncio.run(drained(directory))
        state = on_run(directory, lambda run: run.stats())
    show_state(state, as_json=as_json)


queue = typer.Typer(name="queue", help="Older names of top, pause, resume and stop.", rich_markup_mode=None)
queue.command(epilog=epilog("stq pause runs/first", PAGE))(pause)
queue.command("drain", epilog=epilog("stq stop runs/first", PAGE))(stop)


@queue.command(epilog=epilog("stq top runs/first --once", PAGE))
def stats(directory: RunPath, as_json: AsJson = False) -> None:
    """Print the state of a run."""
    show_state(on_run(directory, lambda run: run.stats()), as_json=as_json)


@queue.command("resume", epilog=epilog("stq resume runs/first", PAGE))
def unpause(directory: RunPath, as_json: AsJson = False) -> None:
    """Hand out the questions of a paused run again."""
    show_state(on_run(directory, lambda run: run.resume()), as_json=as_json)


def on_run(directory: Path, action: Callable[[RunControl], Awaitable[T]], *, trust: bool = False) -> T:
    """Return the result of `action` on the control of the run in `directory`. Raises like `control.open_control`."""
    import asyncio

    from streaming_queue.control.open_control import open_control

    async def act() -> T:
        async with open_control(directory, trust=trust) as run:
            return await action(run)

    return asyncio.run(act())


def show_state(state: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the state of a run."""
    if as_json:
        print_json(state)
    else:
        echo(run_page(state))


def run_page(state: Mapping[str, Any], before: Mapping[str, Any] | None = None, seconds: float = 1.0) -> str:
    """A state as a page of text; with the state `before`, which is `seconds` older, also the pace."""
    counts, history, intake = state["counts"], state["stats"], state["intake"]
    owner = f", process {state['pid']}" if state["pid"] else ""
    ended = f"{counts['done']:,} answered, {counts['dead']:,} failed"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in state["reasons"].items())
    late, so_far = history["late_duplicates_rejected"], "" if intake["complete"] else " so far"
    rows = [
        ("run", f"{state['run_id']}: {state['state']}{owner}"),
        ("questions", f"{ended}, {counts['leased']:,} leased, {counts['ready']:,} ready, of {counts['total']:,}"),
        ("failed", reasons or NONE),
        ("asked", f"{history['re_executions']:,} again, {late:,} answers too late, {history['losses']:,} workers lost"),
        ("source", f"{intake['questions']:,} read{so_far}, {intake['skipped']:,} skipped"),
    ]
    if waiting := state.get("waiting"):
        rows.insert(1, ("waiting", waiting.removeprefix("waiting ")))
    if before is not None:
        pace = sum(counts[key] - before["counts"][key] for key in ("done", "dead")) / seconds
        rows.append(("pace", f"{max(0.0, pace):,.0f}/s"))
    text = columns(rows)
    workers = state.get("workers")
    return f"{text}\n\n{workers_table(workers)}" if workers else text


def workers_table(workers: Sequence[Mapping[str, Any]]) -> str:
    """A line for each worker of a run."""
    rows = [("WORKER", "STATE", "IN FLIGHT", "ANSWERED", "FAILED", "PROTOCOL", "ADDRESS")]
    rows += [
        (
            worker["id"],
            worker["state"],
            f"{worker['busy']} of {worker['limit']}",
            f"{worker['answered']:,}",
            f"{worker['failed']:,}",
            worker["protocol"],
            worker["address"] or NONE,
        )
        for worker in workers
    ]
    reasons = [
        f"{worker['id']} is {worker['state']}{_since(worker)}: {one_line(worker['reason'], LONGEST_REASON)}"
        for worker in workers
        if worker.get("reason")
    ]
    return "\n".join([columns(rows), *reasons])


def _since(worker: Mapping[str, Any]) -> str:
    return f" since {worker['since']}" if worker.get("since") else ""
