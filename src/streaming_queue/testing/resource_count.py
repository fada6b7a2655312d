"""Count the tasks, sockets and threads of this process."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path

_DESCRIPTORS = Path("/dev/fd")  # Linux and macOS


def tasks() -> list[str]:
    """Names of the loop's tasks, without the caller and the relays of the kit."""
    own = asyncio.current_task()
    return sorted(
        name for task in asyncio.all_tasks() if task is not own and not (name := task.get_name()).startswith("relay")
    )


def threads() -> list[str]:
    """Names of the threads, without the loop's own pool, which may grow."""
    return sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_"))


async def sockets() -> int | None:
    """Number of open sockets; None if the system does not list them."""
    return await asyncio.to_thread(_sockets)


def _sockets() -> int | None:
    try:
        descriptors = [int(entry.name) for entry in _DESCRIPTORS.iterdir()]
    except OSError:
        return None
    count = 0
    for descriptor in descriptors:
        try:
            count += stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        except OSError:  # the descriptor of the listing is closed
            continue
    return count
