"""`stq runs`: the runs in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from streaming_queue.cli.options import AsJson
from streaming_queue.cli.text import columns, echo, print_json


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the runs.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List runs."""
    import asyncio

    from streaming_queue.errors import ConfigError

    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; `stq run` makes runs/, and -o names another place")
    entries = asyncio.run(_entries(folder))
    if as_json:
        print_json(entries)
        return
    rows: list[tuple[str, ...]] = [("RUN", "STATE", "PROTOCOL", "ANSWERED", "FAILED", "QUESTIONS", "CREATED")]
    rows += [tuple("-" if value is None else str(value) for value in entry.values()) for entry in entries]
    echo(columns(rows) if entries else f"no runs in {folder}")


async def _entries(folder: Path) -> list[dict[str, Any]]:
    """The facts of each run in a folder, the oldest run first. Other directories are left out."""
    import asyncio

    from streaming_queue.control.open_control import open_control
    from streaming_queue.errors import ConfigError, StreamingQueueError
    from streaming_queue.report.run_directory import RunDirectory

    entries = []
    for path in await asyncio.to_thread(lambda: sorted(folder.iterdir())):
        try:
            manifest = (await asyncio.to_thread(RunDirectory.open, path)).manifest
        except ConfigError:
            continue
        entry = {"run": str(path), "state": "unreadable", "protocol": manifest["protocol"]}
        counts: dict[str, int] = {}
        try:
            async with open_control(path) as run:
                stats = await run.stats()
            entry["state"], counts = stats["state"], stats["counts"]
        except StreamingQueueError:  # one broken run does not hide the others; `stq doctor` says why
            pass
        entry |= {"answered": counts.get("done"), "failed": counts.get("dead"), "questions": counts.get("total")}
        entries.append(entry | {"created": manifest.get("created")})
    return sorted(entries, key=lambda entry: str(entry["created"]))
