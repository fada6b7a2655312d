"""`stq workers`: who works for a run, and who joins and leaves it while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli.options import AsJson, RunPath
from streaming_queue.cli.steering import on_run, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streaming_queue.control.base import RunControl

app = typer.Typer(name="workers", help="List a run's workers, add and remove some.", rich_markup_mode=None)

LONGEST_REASON = 600

WorkerId = Annotated[str, typer.Argument(metavar="ID", help="The worker, as `list` names it.")]


@app.command("list")
def list_(directory: RunPath, as_json: AsJson = False) -> None:
    """Print each worker, its state, what it has in flight and what it did."""

    async def ask(run: RunControl) -> Sequence[dict[str, Any]]:
        return await run.workers()

    _show(on_run(directory, ask), as_json=as_json)


@app.command()
def add(
    directory: RunPath,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where it serves.")],
    protocol: Annotated[
        str | None, typer.Option("--protocol", "-p", help="How it is reached. [as the others, where they agree]")
    ] = None,
    worker_id: Annotated[str | None, typer.Option("--id", help="Its name. [the next Worker-N]")] = None,
    as_json: AsJson = False,
) -> None:
    """Have a worker that runs already take part; one that does not answer its probe is refused."""

    async def command(run: RunControl) -> Sequence[dict[str, Any]]:
        return await run.add_worker(address, protocol=protocol, worker_id=worker_id)

    _show(on_run(directory, command), as_json=as_json)


@app.command()
def drain(
    directory: RunPath,
    worker_id: WorkerId,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has left.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a worker nothing more; it leaves when its questions have ended."""
    import asyncio

    from streaming_queue.control.reach import POLL_S

    async def command(run: RunControl) -> Sequence[dict[str, Any]]:
        workers = await run.remove_worker(worker_id)
        while wait and any(worker["id"] == worker_id for worker in workers):
            await asyncio.sleep(POLL_S)
            workers = await run.workers()
        return workers

    _show(on_run(directory, command), as_json=as_json)


@app.command()
def remove(directory: RunPath, worker_id: WorkerId, as_json: AsJson = False) -> None:
    """Have a worker leave at once; its questions go to others and lose no attempt."""

    async def command(run: RunControl) -> Sequence[dict[str, Any]]:
        return await run.remove_worker(worker_id, at_once=True)

    _show(on_run(directory, command), as_json=as_json)


def _show(workers: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    from streaming_queue.cli.text import columns, echo
    from streaming_queue.telemetry.text import NONE, one_line

    if as_json:
        print_json(workers)
        return
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
    echo(columns(rows))
    for worker in workers:
        if reason := worker.get("reason"):
            since = f" since {worker['since']}" if worker.get("since") else ""
            echo(f"{worker['id']} is {worker['state']}{since}: {one_line(reason, LONGEST_REASON)}")
