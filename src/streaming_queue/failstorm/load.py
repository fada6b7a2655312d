"""Questions at a steady pace, through a pipe that a run reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Self

TICK_S = 0.01


class Load:
    """Makes a FIFO at `path` and writes questions to it; an asynchronous context manager.

    `due` has the moment at which each question is to be asked, by the monotonic clock. So the wait of a question counts
    also if the run is too slow to read it in time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.due: dict[str, float] = {}
        self._pending = b""
        self._pipe = -1
        self._writing: asyncio.Task[None] | None = None
        self._ended = False
        self._per_s = 0.0
        self._since = 0.0
        self._before = 0

    async def __aenter__(self) -> Self:
        self._pipe = await asyncio.to_thread(self._make)
        self._writing = asyncio.create_task(self._write(), name="load")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        await asyncio.to_thread(self.path.unlink, missing_ok=True)

    def _make(self) -> int:
        os.mkfifo(self.path, 0o600)
        # Opened for reading and writing, the pipe needs no reader and does not break without one.
        return os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def burst(self, count: int) -> None:
        """Ask `count` questions at once."""
        self._ask([time.monotonic()] * count)

    def pace(self, per_s: float) -> None:
        """Ask `per_s` questions a second from now on, evenly spread."""
        self._per_s, self._since, self._before = per_s, time.monotonic(), len(self.due)

    async def end(self) -> None:
        """Ask no more questions; write the rest to the pipe, and close it."""
        self._ended = True
        if self._writing is not None:
            await self._writing
        os.close(self._pipe)
        self._pipe = -1

    def _ask(self, moments: list[float]) -> None:
        lines = []
        for moment in moments:
            number = len(self.due) + 1
            self.due[f"s{number}"] = moment
            lines.append(b'{"id": "s%d", "question": "Question %d of the storm: what is %d + 7?"}\n' % ((number,) * 3))
        self._pending += b"".join(lines)

    async def _write(self) -> None:
        while not self._ended or self._pending:
            if self._per_s and not self._ended:
                asked = len(self.due) - self._before
                wanted = int((time.monotonic() - self._since) * self._per_s)
                self._ask([self._since + (number + 1) / self._per_s for number in range(asked, wanted)])
            if self._pending:
                with contextlib.suppress(BlockingIOError):
                    self._pending = self._pending[os.write(self._pipe, self._pending) :]
            await asyncio.sleep(TICK_S)
