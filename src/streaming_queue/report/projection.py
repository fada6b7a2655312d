"""results.jsonl, kept equal to the queue's record during a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from streaming_queue.errors import QueueStalledError, StreamingQueueError, disk_error
from streaming_queue.report.rows_file import RowsFile
from streaming_queue.telemetry.json_lines import encode_line

if TYPE_CHECKING:
    from streaming_queue.messages import Outcome
    from streaming_queue.queue.base import WorkQueue

PACE_S = 0.1
"""Longest time to notice a new end without `nudge`."""
_PAUSE_S = 0.05
_RETRY_S = 1.0
STALLED_FINISH_S = 5.0
"""Longest time to finish the file after the disk of the queue stood still, in seconds."""
_ROWS = 512
"""Rows to read at a time; the queue gives fewer large ones."""


class Projection:
    """One line per question that ended, `Outcome.row()`, in the order of the queue's numbers.

    A row is appended within 0.2 s of its commit and is durable after `finish`; the queue's record is durable at once.
    Memory is bounded by a batch. After an end is taken back (`WorkQueue.revision`), a new file is written beside the
    old one and replaces it, so the file never has two rows for a question. Meanwhile, or while the disk is full, the
    file lags; the queue does not wait for it.

    At the start the file is kept if it is a prefix of the record: no end was taken back, the number of lines is the
    number of the last row, that row equals the queue's byte for byte, and the file has no holes. Otherwise a new file
    is written in the background. First, an unfinished last line is cut off.

    `also(row)` gets each row that was not in the file at the start, or each row after the number `after`, in order, in
    a thread of its own and at its own pace. If an end is taken back, it gets a new row of that question. Without
    `after` it gets every row if a new file is written at the start.
    """

    def __init__(
        self,
        queue: WorkQueue,
        path: str | Path,
        *,
        also: Callable[[dict[str, Any]], None] | None = None,
        after: int | None = None,
    ) -> None:
        self.path = Path(path)
        self._queue = queue
        self._also = also
        self._passed = after or 0
        self._after = after
        self._file: RowsFile
        self._revision = 0
        self._rewrite_wanted = False
        self._rewrite_not_before = 0.0
        self._finishing = False
        self._wake: list[asyncio.Event] = []
        self._task: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, QueueStalledError) and self._task is not None:
            self._finishing = True
            self.nudge()
            await asyncio.wait({self._task}, timeout=STALLED_FINISH_S)  # it may hang with the disk
            return
        try:
            await self.finish()
        except Exception as own:
            if error is None:
                raise
            if own is not error:
                error.add_note(f"in addition, {self.path} could not be finished: {own}")

    async def start(self) -> None:
        """Repair the file and begin to follow the queue.

        Raises:
            StreamingQueueError: the file cannot be read or written.
        """
        try:
            file = await asyncio.to_thread(RowsFile.open, self.path)
        except OSError as error:
            raise self._explained(error) from error
        self._file = file
        try:
            self._revision = await self._queue.revision()
            if await self._is_prefix(file):
                file.last = file.rows
                if self._after is None:
                    self._passed = file.rows
            else:
                self._rewrite_wanted = True
        except BaseException:
            await asyncio.to_thread(file.close)
            raise
        self._broken = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"projection to {self.path.name}")

    async def watch(self) -> None:
        """Wait for the error that ended the work on the file before `finish`, and raise it; wait forever without one.

        An error of `also` ends only `also`, and `finish` raises it.
        """
        if self._broken is not None:
            await asyncio.shield(self._broken)

    def nudge(self) -> None:
        """Report that questions have ended. It is cheap; call it from the event loop."""
        for wake in self._wake:
            wake.set()

    async def finish(self) -> None:
        """Write the missing rows, make the file durable and stop; later calls change nothing.

        Raises:
            StreamingQueueError: the file could not be completed. The queue has every row.
            Exception: an error of `also`; the file is complete.
        """
        self._finishing = True
        self.nudge()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        steps = [self._follow_patiently] if self._also is None else [self._follow_patiently, self._pass_on]
        ends = await asyncio.gather(*(self._repeat(step) for step in steps), return_exceptions=True)
        errors = [end for end in ends if end is not None]
        try:
            if not errors or ends[0] is None:
                await self._settle()
        except OSError as error:
            raise self._explained(error) from error
        finally:
            await asyncio.to_thread(self._file.close)
        if errors:
            raise errors[0]

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step on each nudge and every `PACE_S`, and a last step after `finish`."""
        wake = asyncio.Event()
        self._wake.append(wake)
        if self._finishing:
            wake.set()
        while True:
            last = self._finishing
            wake.clear()
            await step()
            if last:
                return
            if not self._finishing:
                await asyncio.sleep(_PAUSE_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(PACE_S - _PAUSE_S):
                        await wake.wait()

    async def _follow_patiently(self) -> None:
        """Follow the queue. After a failure try again until the end: a full disk may have room again."""
        try:
            await self._follow()
        except OSError as error:
            if self._finishing:
                raise self._explained(error) from error
            await asyncio.sleep(_RETRY_S)
        except Exception as error:
            if self._broken is not None and not self._broken.done():
                self._broken.set_exception(error)
                self._broken.exception()  # without a `watch`, `finish` raises it
            raise

    async def _follow(self) -> None:
        """Append the missing rows, or rewrite the file if a rewrite is due."""
        while True:
            if self._rewrite_wanted:
                if not self._finishing and time.monotonic() < self._rewrite_not_before:
                    return
                await self._rewrite()
                continue
            file = self._file
            outcomes = await self._queue.results(file.last, _ROWS)
            if await self._queue.revision() != self._revision:
                self._rewrite_wanted = True
                continue
            if not outcomes:
                return
            await asyncio.to_thread(file.append, outcomes)

    async def _rewrite(self) -> None:
        """Replace the file by a new one from the record; try again later if an end was taken back meanwhile."""
        began = time.monotonic()
        revision = await self._queue.revision()
        successor = await asyncio.to_thread(RowsFile.successor, self.path)
        try:
            while outcomes := await self._queue.results(successor.last, _ROWS):
                await asyncio.to_thread(successor.append, outcomes)
            if await self._queue.revision() == revision:
                await asyncio.to_thread(successor.install)
                old, self._file = self._file, successor
                self._revision, self._rewrite_wanted = revision, False
                await asyncio.to_thread(old.close)
        finally:
            if self._file is not successor:
                await asyncio.to_thread(successor.discard)
            now = time.monotonic()
            self._rewrite_not_before = now + 4 * (now - began)  # at most a fifth of the time goes into rewriting

    async def _settle(self) -> None:
        """Make the file durable. Write it anew if it was removed, or if a purge left it longer than the record."""
        counts = await self._queue.counts()
        file = self._file
        if file.rows > counts.done + counts.dead or not await asyncio.to_thread(file.in_place):
            self._rewrite_wanted = True
            await self._follow()
        await asyncio.to_thread(self._file.sync)

    async def _pass_on(self) -> None:
        """Pass new rows to `also`; a slow `also` delays only itself."""
        while outcomes := await self._queue.results(self._passed, _ROWS):
            await asyncio.to_thread(self._pass, outcomes)

    def _pass(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._passed = outcome.number
            if self._also is not None:
                self._also(outcome.row())

    async def _is_prefix(self, file: RowsFile) -> bool:
        if not file.rows:
            return file.intact
        counts = await self._queue.counts()
        if self._revision or not file.intact or file.rows > counts.done + counts.dead:
            return False
        expected = await self._queue.results(file.rows - 1, 1)
        return bool(expected) and expected[0].number == file.rows and encode_line(expected[0].row()) == file.last_line

    def _explained(self, error: OSError) -> StreamingQueueError:
        return disk_error(self.path, error) or StreamingQueueError(
            f"{self.path} cannot be written: {error.strerror or error}; no answer is lost: the run's queue has them, "
            "and `stq resume` writes the file again"
        )
