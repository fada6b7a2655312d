"""`stq pause` and `stq stop`: steer a run that goes on. `stq resume` is a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli.options import AsJson, RunPath
from streaming_queue.cli.steering import on_run, print_json, run_page
from streaming_queue.cli.text import echo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streaming_queue.control.base import RunControl


def pause(directory: RunPath, as_json: AsJson = False) -> None:
    """Pause a run: hand out no more questions.

    Questions in flight end. `stq resume` hands questions out again.
    """

    async def command(run: RunControl) -> Mapping[str, Any]:
        return await run.pause()

    show(on_run(directory, command), as_json=as_json)


def stop(
    directory: RunPath,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the run has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop a run: finish what is in flight, keep the rest.

    The run ends with 75. `stq resume` goes on with it.
    """
    from streaming_queue.control.open_control import drained

    async def command(run: RunControl) -> Mapping[str, Any]:
        told = await run.drain()
        if wait:
            await drained(directory)
        return told

    told = on_run(directory, command)
    if wait:
        told = stats(directory)
    show(told, as_json=as_json)


def stats(directory: RunPath) -> Mapping[str, Any]:
    """The state of a run, going on or not."""

    async def ask(run: RunControl) -> Mapping[str, Any]:
        return await run.stats()

    return on_run(directory, ask)


def show(state: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a state."""
    if as_json:
        print_json(state)
    else:
        echo(run_page(state))
