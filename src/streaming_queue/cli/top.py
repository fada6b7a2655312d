"""`stq top`: a run as it goes on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli.options import AsJson, RunPath

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
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

    from streaming_queue.cli.steering import print_json, run_page
    from streaming_queue.cli.text import echo

    once = once or not (as_json or sys.stdout.isatty())
    if once:
        state = asyncio.run(_one(directory))
        if as_json:
            print_json(state)
        else:
            echo(run_page(state))
    else:
        asyncio.run(_watch(directory, as_json=as_json))


async def _one(directory: Path) -> Mapping[str, Any]:
    async for state in _states(directory):
        return state
    raise AssertionError("unreachable: there is always a first state")


async def _watch(directory: Path, *, as_json: bool) -> None:
    if as_json:
        from streaming_queue.telemetry.json_lines import JsonLines

        printer = JsonLines()
        async for state in _states(directory):
            printer.record(state)
        return
    from rich.live import Live
    from rich.text import Text

    from streaming_queue.cli.steering import run_page
    from streaming_queue.telemetry.safe_console import SafeConsole

    with Live(Text(""), console=SafeConsole(), auto_refresh=False) as live:
        before: Mapping[str, Any] | None = None
        async for state in _states(directory):
            live.update(Text(run_page(state, before, INTERVAL_S)), refresh=True)
            before = state


async def _states(directory: Path) -> AsyncIterator[Mapping[str, Any]]:
    """The state of the run each second, until it is stopped."""
    import asyncio

    from streaming_queue.control.open_control import open_control

    while True:
        async with open_control(directory) as run:
            yield {**await run.stats(), "workers": list(await run.workers()) if run.live else []}
            if not run.live:
                return
        await asyncio.sleep(INTERVAL_S)
