"""`stq top`: a live view of a run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli.options import AsJson, RunPath
from streaming_queue.cli.steer import run_page, show_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

INTERVAL_S = 1.0


def top(
    directory: RunPath,
    once: Annotated[bool, typer.Option("--once", help="Print one state and return.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch a run live.

    It returns when no process works on the run. With --json each state is a line. A pipe gets one state.
    """
    import asyncio

    if once or not (as_json or sys.stdout.isatty()):
        asyncio.run(_watch(directory, lambda state: show_state(state, as_json=as_json), once=True))
    elif as_json:
        from streaming_queue.telemetry.json_lines import JsonLines

        asyncio.run(_watch(directory, JsonLines().record))
    else:
        from rich.live import Live
        from rich.text import Text

        from streaming_queue.telemetry.safe_console import SafeConsole

        before: Mapping[str, Any] | None = None

        def update(state: Mapping[str, Any]) -> None:
            nonlocal before
            live.update(Text(run_page(state, before, INTERVAL_S)), refresh=True)
            before = state

        with Live(Text(""), console=SafeConsole(), auto_refresh=False) as live:
            asyncio.run(_watch(directory, update))


async def _watch(directory: Path, show: Callable[[Mapping[str, Any]], None], *, once: bool = False) -> None:
    """Show the state of the run each second until the run has stopped, or `once`."""
    import asyncio

    from streaming_queue.control.open_control import open_control

    while True:
        async with open_control(directory) as run:
            state = {**await run.stats(), "workers": list(await run.workers()) if run.live else []}
        show(state)
        if once or not run.live:
            return
        await asyncio.sleep(INTERVAL_S)
