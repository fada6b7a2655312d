"""What `stq queue` and `stq dlq` share: a way to the run, and the form of its answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from streaming_queue.cli.text import echo_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from streaming_queue.control.base import RunControl

T = TypeVar("T")

LONGEST_REASON = 600


def on_run(directory: Path, action: Callable[[RunControl], Awaitable[T]], *, trust: bool = False) -> T:
    """Do `action` with the control of the run in `directory`. Raises like `control.open_control`."""
    import asyncio

    from streaming_queue.control.open_control import open_control

    async def act() -> T:
        async with open_control(directory, trust=trust) as run:
            return await action(run)

    return asyncio.run(act())


def print_json(document: Any) -> None:
    """Print a JSON object, for people too."""
    from streaming_queue.telemetry.json_lines import encode

    echo_json(encode(document, indent=True).decode())


def run_page(state: Mapping[str, Any], before: Mapping[str, Any] | None = None, seconds: float = 1.0) -> str:
    """A state as a page of text; with the state `before` it, `seconds` earlier, also the pace."""
    from streaming_queue.cli.text import columns
    from streaming_queue.telemetry.text import NONE

    counts, history, intake = state["counts"], state["stats"], state["intake"]
    owner = f", process {state['pid']}" if state["pid"] else ""
    ended = f"{counts['done']:,} answered, {counts['dead']:,} failed"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in state["reasons"].items())
    late = history["late_duplicates_rejected"]
    rows = [
        ("run", f"{state['run_id']}: {state['state']}{owner}"),
        ("questions", f"{ended}, {counts['leased']:,} leased, {counts['ready']:,} ready, of {counts['total']:,}"),
        ("failed", reasons or NONE),
        ("asked", f"{history['re_executions']:,} again, {late:,} answers too late, {history['losses']:,} workers lost"),
        (
            "source",
            f"{intake['questions']:,} read{'' if intake['complete'] else ' so far'}, {intake['skipped']:,} skipped",
        ),
    ]
    if before is not None:
        pace = sum(counts[key] - before["counts"][key] for key in ("done", "dead")) / seconds
        rows.append(("pace", f"{max(0.0, pace):,.0f}/s"))
    text = columns(rows)
    workers = state.get("workers")
    return f"{text}\n\n{workers_table(workers)}" if workers else text


def workers_table(workers: Sequence[Mapping[str, Any]]) -> str:
    """A line for each worker of a run."""
    from streaming_queue.cli.text import columns
    from streaming_queue.telemetry.text import NONE, one_line

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
