"""What a resume does if the lines that the run has read are changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from streaming_queue.config import Config
from streaming_queue.errors import ConfigError
from streaming_queue.intake import bundled_questions, first_difference, is_pipe
from streaming_queue.messages import SourceChecks
from streaming_queue.queue.base import WorkQueue
from streaming_queue.queue.lock import OwnerLock
from streaming_queue.report.run_directory import RunDirectory


async def first_changed_line(queue: WorkQueue, path: str | None) -> int | None:
    """The first line of the source that is not the line that was read before; None if none of those lines is changed.

    None as well for a source that cannot be read twice, or not at all: the feed tells about it. Raises QueueError.
    """
    checks = await queue.source_checks()
    if not checks or await asyncio.to_thread(is_pipe, path):
        return None
    try:
        return await first_difference(str(bundled_questions()) if path is None else path, checks)
    except ConfigError:
        return None


def refused(directory: RunDirectory, config: Config, line: int) -> ConfigError:
    """The error of a resume that was not told what to do."""
    name = config.qa.coordinator.data_file or "the bundled set of questions"
    return ConfigError(
        f"{name}: line {line} is not the line that the run has read; restore the file, or choose: "
        f"`stq resume {directory.path} --source-changed append` keeps all rows and reads on from line {line}, "
        "`--source-changed restart` puts the rows aside and begins anew"
    )


async def read_on_from(queue: WorkQueue, line: int) -> None:
    """Let the feed read on from `line`. Questions that are known are not asked again. Raises QueueError."""
    mark = (await queue.bookmark() or {}) | {"lines": line - 1, "complete": False, "limited": False, "again": True}
    await queue.put([], bookmark=mark, checks=SourceChecks(line - 1, b""))


async def put_aside(directory: RunDirectory) -> Path:
    """Move the queue, closed, and the rows of the run into a directory in the run's own, and return it.

    Raises:
        QueueInUseError: another process works on the run.
        QueueError: the queue was not closed cleanly, or the disk failed.
        StreamingQueueError: a file cannot be moved.
    """

    def work() -> Path:
        lock = OwnerLock(directory.queue_path)
        lock.acquire()
        try:
            return directory.put_aside()
        finally:
            lock.release(clean=True)

    return await asyncio.to_thread(work)
