"""Watches the thread that owns the database: one that stands still ends the queue."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from streaming_queue.errors import QueueStalledError

if TYPE_CHECKING:
    from pathlib import Path

    from streaming_queue.queue.sqlite_writer import Writer

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Pause between two looks at the thread, in seconds."""
SLOW_LOOKS = 10
"""Looks without progress before a warning."""
STALLED_LOOKS = 60
"""Looks without progress that end the queue: far more than a slow disk needs for a transaction."""


class WriterWatch:
    """Looks at a writer now and then. It counts looks, not time: a process that was stopped for a while has done none.

    Progress is an operation that ended, or SQLite's own work within a long one.
    """

    def __init__(self, writer: Writer, path: Path) -> None:
        self._writer = writer
        self._path = path
        self._seen = -1
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._again()

    def _again(self) -> None:
        self._timer = self._writer.loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        writer = self._writer
        is_stuck = writer.busy and writer.progress == self._seen
        self._seen = writer.progress
        self._looks = self._looks + 1 if is_stuck else 0
        if self._looks == SLOW_LOOKS:
            logger.warning("%s: the disk has not answered for %g s; still waiting", self._path, SLOW_LOOKS * LOOK_S)
        if self._looks < STALLED_LOOKS:
            self._again()
            return
        writer.give_up(
            QueueStalledError(
                f"{self._path}: the disk did not answer for {STALLED_LOOKS * LOOK_S:g} s; check it, then resume the "
                "run: acknowledged changes are kept"
            )
        )

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
