"""Commands on a run: the way to its control, and its state and its workers as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from streaming_queue.cli.text import columns, echo, print_json
from streaming_queue.telemetry.text import NONE, one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from streaming_queue.control.base import RunControl

T = TypeVar("T")

LONGEST_REASON = 600


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
