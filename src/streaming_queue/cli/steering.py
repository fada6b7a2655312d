"""What `stq queue` and `stq dlq` share: a way to the run, and the form of its answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from streaming_queue.cli.text import echo_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streaming_queue.control.base import RunControl

T = TypeVar("T")


def on_run(directory: Path, action: Callable[[RunControl], Awaitable[T]], *, trust: bool = False) -> T:
    """Do `action` with the control of the run in `directory`, going on or stopped. Raises like `control.reach`."""
    import asyncio

    from streaming_queue.control.reach import reach

    async def act() -> T:
        async with reach(directory, trust=trust) as run:
            return await action(run)

    return asyncio.run(act())


def print_json(document: Any) -> None:
    """Print a JSON object, for people too."""
    from streaming_queue.telemetry.json_lines import encode

    echo_json(encode(document, indent=True).decode())
