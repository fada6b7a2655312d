"""`stq workers`: the workers of a run, which may join and leave while the run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli.help import epilog
from streaming_queue.cli.options import AsJson, ProtocolName, RunPath
from streaming_queue.cli.steer import on_run, workers_table
from streaming_queue.cli.text import echo, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streaming_queue.control.base import RunControl

PAGE = "docs/control.md"

app = typer.Typer(name="workers", help="List, add, drain or remove workers.", rich_markup_mode=None)

WorkerId = Annotated[str, typer.Argument(metavar="ID", help="Id of the worker, as in `list`.")]


@app.command("list", epilog=epilog("stq workers list runs/first", PAGE))
def list_(directory: RunPath, as_json: AsJson = False) -> None:
    """Print each worker with its state and its figures."""
    _show(on_run(directory, lambda run: run.workers()), as_json=as_json)


@app.command(epilog=epilog("stq workers add runs/first http://127.0.0.1:10005", PAGE))
def add(
    directory: RunPath,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of the worker.")],
    protocol: ProtocolName = None,
    worker_id: Annotated[str | None, typer.Option("--id", help="Id of the worker. [the next Worker-N]")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a worker that runs already.

    The worker must answer a probe. Without -p its protocol is that of the other workers, if they agree.
    """
    added = on_run(directory, lambda run: run.add_worker(address, protocol=protocol, worker_id=worker_id))
    _show(added, as_json=as_json)


@app.command(epilog=epilog("stq workers drain runs/first Worker-2 --wait", PAGE))
def drain(
    directory: RunPath,
    worker_id: WorkerId,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the worker has left.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send no more questions to a worker.

    The worker leaves when its questions have ended.
    """
    import asyncio

    from streaming_queue.control.open_control import POLL_S

    async def command(run: RunControl) -> Sequence[dict[str, Any]]:
        workers = await run.remove_worker(worker_id)
        while wait and any(worker["id"] == worker_id for worker in workers):
            await asyncio.sleep(POLL_S)
            workers = await run.workers()
        return workers

    _show(on_run(directory, command), as_json=as_json)


@app.command(epilog=epilog("stq workers remove runs/first Worker-2", PAGE))
def remove(directory: RunPath, worker_id: WorkerId, as_json: AsJson = False) -> None:
    """Remove a worker at once.

    Its questions go to other workers and lose no attempt.
    """
    _show(on_run(directory, lambda run: run.remove_worker(worker_id, at_once=True)), as_json=as_json)


def _show(workers: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(workers)
    else:
        echo(workers_table(workers))
