"""What is alive in this process: tasks, sockets, threads."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path

_DESCRIPTORS = Path("/dev/fd")  # Linux and macOS


def tasks() -> list[str]:
    """The names of the loop's tasks, but the caller's and the kit's own relays'."""
    own = asyncio.current_task()
    return sorted(
        name for task in asyncio.all_tasks() if task is not own and not (name := task.get_name()).startswith("relay")
    )


def threads() -> list[str]:
    """The names of the threads; those of the loop's own pool, which come and stay by themselves, do not count."""
    return sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_"))


async def sockets() -> int | None:
    """How many sockets are open; None where the system does not tell."""
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
        except OSError:  # the listing's own descriptor is closed by now
            continue
    return count
