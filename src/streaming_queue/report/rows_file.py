"""The file of rows, as the one who writes it sees it. Every call blocks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from streaming_queue.links import NO_LINK
from streaming_queue.messages import Outcome
from streaming_queue.report.files import MODE, install, open_temporary, temporary_name
from streaming_queue.telemetry.json_lines import encode_line

_CHUNK_BYTES = 1024 * 1024


class RowsFile:
    """JSON Lines, one row an outcome, appended in the order of their numbers.

    `rows` is how many lines it has, `last` the number of the outcome in the newest. A write ends with a newline, and
    one that fails is taken back, so nobody finds half a line between two writes. Calls may come from any thread.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.rows = 0
        self.last = 0
        self.last_line = b""
        self.intact = True
        self._descriptor: int | None = descriptor
        self._size = 0
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """The file at `path`, made if there is none, with an unfinished last line cut off.

        `rows` and `last_line` say what is in it; `intact` is False where it holds a NUL byte, which no row has: a
        power cut leaves such holes. `last` is for the caller to find.
        """
        file = cls(path, os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | NO_LINK, MODE))
        try:
            file._survey()
        except BaseException:
            file.close()
            raise
        return file

    @classmethod
    def successor(cls, path: Path) -> Self:
        """An empty file that takes the place of `path` once it is `install`ed."""
        return cls(path, open_temporary(path))

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Add a row an outcome; one whose number is not above `last` is there already and is left out.

        Raises:
            OSError: nothing was added.
        """
        with self._lock:
            fresh = [outcome for outcome in outcomes if outcome.number > self.last]
            if not fresh:
                return
            data = b"".join(encode_line(outcome.row()) for outcome in fresh)
            self._write(data)
            self.rows += len(fresh)
            self.last = fresh[-1].number

    def sync(self) -> None:
        """Make what was appended durable."""
        with self._lock:
            os.fsync(self._open_descriptor())

    def in_place(self) -> bool:
        """Whether `path` still is this file: somebody may have removed or replaced it."""
        with self._lock:
            try:
                return os.path.samestat(os.fstat(self._open_descriptor()), self.path.stat())
            except FileNotFoundError:
                return False

    def install(self) -> None:
        """Put a `successor` in the place of `path`, durably."""
        with self._lock:
            install(self.path, self._open_descriptor())

    def discard(self) -> None:
        """Drop a `successor` that is not to be installed."""
        self.close()
        temporary_name(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        return self._descriptor

    def _write(self, data: bytes) -> None:
        descriptor = self._open_descriptor()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, self._size)
            raise
        self._size += len(data)

    def _survey(self) -> None:
        descriptor = self._open_descriptor()
        before_last, after_last, position = 0, 0, 0
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            self.intact = self.intact and b"\0" not in chunk
            newlines = chunk.count(b"\n")
            if newlines:
                end = chunk.rfind(b"\n")
                before_last = after_last if newlines == 1 else position + chunk.rfind(b"\n", 0, end) + 1
                after_last = position + end + 1
                self.rows += newlines
            position += len(chunk)
        if position > after_last:
            os.ftruncate(descriptor, after_last)
        self._size = after_last
        self.last_line = os.pread(descriptor, after_last - before_last, before_last)
