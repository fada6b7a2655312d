"""`stq queue`: older spellings of `stq top --once`, `pause`, `resume` and `stop`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from streaming_queue.cli import steer
from streaming_queue.cli.help import epilog
from streaming_queue.cli.options import AsJson, RunPath
from streaming_queue.cli.steering import on_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streaming_queue.control.base import RunControl

PAGE = "docs/control.md"

app = typer.Typer(name="queue", help="Older names of top, pause, resume and stop.", rich_markup_mode=None)
app.command(epilog=epilog("stq pause runs/first", PAGE))(steer.pause)
app.command("drain", epilog=epilog("stq stop runs/first", PAGE))(steer.stop)


@app.command(epilog=epilog("stq top runs/first --once", PAGE))
def stats(directory: RunPath, as_json: AsJson = False) -> None:
    """Print the state of a run."""
    steer.show(steer.stats(directory), as_json=as_json)


@app.command(epilog=epilog("stq resume runs/first", PAGE))
def resume(directory: RunPath, as_json: AsJson = False) -> None:
    """Hand out the questions of a paused run again."""

    async def command(run: RunControl) -> Mapping[str, Any]:
        return await run.resume()

    steer.show(on_run(directory, command), as_json=as_json)
