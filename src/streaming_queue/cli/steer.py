"""`stq pause` and `stq stop` steer a run that goes on; `stq queue` has the older names. See also `resume.py`."""

from __future__ import annotations

from typing import Annotated

import typer

from streaming_queue.cli.help import epilog
from streaming_queue.cli.options import AsJson, RunPath
from streaming_queue.cli.steering import on_run, show_state

PAGE = "docs/control.md"


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
