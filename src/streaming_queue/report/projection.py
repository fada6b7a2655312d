"""results.jsonl, kept equal to the queue's record while a run goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from streaming_queue.errors import StreamingQueueError
from streaming_queue.report.rows_file import RowsFile
from streaming_queue.telemetry.json_lines import encode_line

if TYPE_CHECKING:
    from streaming_queue.messages import Outcome
    from streaming_queue.queue.base import WorkQueue

PACE_S = 0.1
"""How long a new end can go unnoticed when nobody calls `nudge`."""
_PAUSE_S = 0.05
_RETRY_S = 1.0
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_ROWS = 512


class Projection:
    """One line a question that ended, `Outcome.row()`, in the order of the queue's numbers.

    A row is appended within 0.2 s of its commit and is durable after `finish`; the queue's record is the durable one
    all along. Memory is bounded by a batch. As an end is taken back (`WorkQueue.revision`) the file is written anew
    beside the old one and replaces it at once: it never has two rows for a question. While that takes, or while the
    disk is full, the file lags; the queue does not wait for it.

    At the start the file is taken over where it is a prefix of the record: nothing was ever taken back, the file has
    as many lines as its last row's number, that row equals the queue's byte for byte, and there are no holes in it.
    Otherwise it is written anew in the background. An unfinished last line is cut off first.

    `also(row)` is told each row that was not in the file at the start, in order, in a thread of its own and at its own
    pace. A question whose end was taken back is told again with its new end; after a file written anew at the start,
    every row is.
    """

    def __init__(
        self, queue: WorkQueue, path: str | Path, *, also: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.path = Path(path)
        self._queue = queue
        self._also = also
        self._file: RowsFile | None = None
        self._revision = 0
        self._rewrite_wanted = False
        self._rewrite_not_before = 0.0
        self._finishing = False
        self._wake: list[asyncio.Event] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.finish()
        except Exception as own:
            if error is None:
                raise
            if own is not error:
                error.add_note(f"beside that, {self.path} could not be finished: {own}")

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
            else:
                self._rewrite_wanted = True
        except BaseException:
            await asyncio.to_thread(file.close)
            raise
        self._task = asyncio.create_task(self._run(file.last), name=f"projection to {self.path.name}")

    def nudge(self) -> None:
        """Say that questions have ended; costs nothing, may be called as often as one likes, from the event loop."""
        for wake in self._wake:
            wake.set()

    async def finish(self) -> None:
        """Write what is missing, make it durable and stop; later calls change nothing.

        Raises:
            StreamingQueueError: the file could not be brought to its end. The queue still has every row.
            Exception: what `also` raised; the file is complete.
        """
        self._finishing = True
        self.nudge()
        if self._task is not None:
            await self._task

    async def _run(self, told: int) -> None:
        followers: list[Callable[[], Awaitable[None]]] = [self._follow_patiently]
        if self._also is not None:
            followers.append(_Teller(self._queue, self._also, told).step)
        ends = await asyncio.gather(*(self._repeat(step) for step in followers), return_exceptions=True)
        errors = [end for end in ends if end is not None]
        try:
            if not errors or ends[0] is None:
                await self._settle()
        except OSError as error:
            raise self._explained(error) from error
        finally:
            if self._file is not None:
                await asyncio.to_thread(self._file.close)
        if errors:
            raise errors[0]

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take steps on each nudge and at the pace, until one more after `finish`."""
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
                await self._sleep(wake, PACE_S - _PAUSE_S)

    async def _sleep(self, wake: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            return

    async def _follow_patiently(self) -> None:
        """Follow; a disk that is full may have room again, until the end."""
        try:
            await self._follow()
        except OSError as error:
            if self._finishing:
                raise self._explained(error) from error
            await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        """Bring the file to the record's end, unless a rewrite is due that has to wait for its turn."""
        batch = _Batch()
        while True:
            if self._rewrite_wanted:
                if not self._finishing and time.monotonic() < self._rewrite_not_before:
                    return
                await self._rewrite()
                continue
            file = self._open_file()
            outcomes = await self._queue.results(file.last, batch.limit)
            if await self._queue.revision() != self._revision:
                self._rewrite_wanted = True
                continue
            if outcomes:
                await asyncio.to_thread(file.append, outcomes)
            if not batch.more(outcomes):
                return

    async def _rewrite(self) -> None:
        """Write the record to a new file and put it in place; an end taken back meanwhile means to try again later."""
        began = time.monotonic()
        revision = await self._queue.revision()
        batch = _Batch()
        successor = await asyncio.to_thread(RowsFile.successor, self.path)
        try:
            outcomes = await self._queue.results(0, batch.limit)
            while outcomes:
                await asyncio.to_thread(successor.append, outcomes)
                outcomes = await self._queue.results(successor.last, batch.limit) if batch.more(outcomes) else []
            if await self._queue.revision() == revision:
                await asyncio.to_thread(successor.install)
                old, self._file = self._open_file(), successor
                self._revision, self._rewrite_wanted = revision, False
                await asyncio.to_thread(old.close)
        finally:
            if self._file is not successor:
                await asyncio.to_thread(successor.discard)
            now = time.monotonic()
            self._rewrite_not_before = now + 4 * (now - began)  # at most a fifth of the time goes into rewriting

    async def _settle(self) -> None:
        """Make the file durable; anew where somebody removed it, or where a purge left it longer than the record."""
        counts = await self._queue.counts()
        file = self._open_file()
        if file.rows > counts.done + counts.dead or not await asyncio.to_thread(file.in_place):
            self._rewrite_wanted = True
            await self._follow()
        await asyncio.to_thread(self._open_file().sync)

    async def _is_prefix(self, file: RowsFile) -> bool:
        if not file.rows:
            return file.intact
        counts = await self._queue.counts()
        if self._revision or not file.intact or file.rows > counts.done + counts.dead:
            return False
        expected = await self._queue.results(file.rows - 1, 1)
        return bool(expected) and expected[0].number == file.rows and encode_line(expected[0].row()) == file.last_line

    def _open_file(self) -> RowsFile:
        if self._file is None:
            raise RuntimeError("the projection has not been started")
        return self._file

    def _explained(self, error: OSError) -> StreamingQueueError:
        return StreamingQueueError(
            f"{self.path} cannot be written: {error.strerror or error}; no answer is lost: the run's queue has them, "
            "and `stq resume` writes the file again"
        )


class _Batch:
    """How many rows to read at a time: few at first, more while they are small."""

    def __init__(self) -> None:
        self.limit = 32

    def more(self, outcomes: list[Outcome]) -> bool:
        """Whether more may follow `outcomes`; adapts the limit to their size."""
        full = len(outcomes) >= self.limit
        size = sum(len(o.question.text) + (len(o.result.answer) if o.result else 0) + 500 for o in outcomes)
        if size > _BATCH_BYTES:
            self.limit = max(1, self.limit * _BATCH_BYTES // size)
        elif full and size < _BATCH_BYTES // 2:
            self.limit = min(_BATCH_ROWS, self.limit * 2)
        return full


class _Teller:
    """Tells `also` of new rows, with a cursor of its own: a slow listener holds up nothing but itself."""

    def __init__(self, queue: WorkQueue, also: Callable[[dict[str, Any]], None], told: int) -> None:
        self._queue = queue
        self._also = also
        self._told = told

    async def step(self) -> None:
        """Tell what is new."""
        batch = _Batch()
        more = True
        while more:
            outcomes = await self._queue.results(self._told, batch.limit)
            if outcomes:
                await asyncio.to_thread(self._tell, outcomes)
            more = batch.more(outcomes)

    def _tell(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._told = outcome.number
            self._also(outcome.row())
