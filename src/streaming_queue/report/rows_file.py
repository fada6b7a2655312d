"""The file of rows for its writer. Every call blocks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Self

from streaming_queue.links import NO_LINK
from streaming_queue.messages import Outcome
from streaming_queue.report.files import MODE, install, open_temporary, temporary_name
from streaming_queue.telemetry.json_lines import encode_line

_CHUNK_BYTES = 1024 * 1024


class RowsFile:
    """JSON Lines, one row per ended question, in the order of their numbers.

    `rows` is the number of lines; the file is complete up to the number `last`. A write ends with a newline, and a
    failed write is taken back. So a reader finds no half line between two writes. Calls may come from any thread.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.rows = 0
        self.last = 0
        self.last_line = b""
        self.intact = True
        self._file = FileIO(descriptor, "r+")
        self._size = 0
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or make the file at `path`, and cut off an unfinished last line.

        `rows` and `last_line` describe the content. `intact` is False if it holds a NUL byte, which no row has: a power
        cut leaves such holes. The caller must set `last`.
        """
        file = cls(path, os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | NO_LINK, MODE))
        try:
            file._scan()
        except BaseException:
            file.close()
            raise
        return file

    @classmethod
    def successor(cls, path: Path) -> Self:
        """An empty file that replaces `path` at `install`."""
        return cls(path, open_temporary(path))

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Add a row for each outcome that is an end. Skip numbers up to `last`: the file has their rows.

        Raises:
            OSError: nothing was added.
        """
        with self._lock:
            fresh = [outcome for outcome in outcomes if outcome.number > self.last]
            if not fresh:
                return
            ended = [outcome for outcome in fresh if outcome.has_ended]
            self._write(b"".join(encode_line(outcome.row()) for outcome in ended))
            self.rows += len(ended)
            self.last = fresh[-1].number

    def sync(self) -> None:
        """Make the appended rows durable."""
        with self._lock:
            os.fsync(self._file.fileno())

    def in_place(self) -> bool:
        """Whether `path` is still this file and was not removed or replaced."""
        with self._lock:
            try:
                return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
            except FileNotFoundError:
                return False

    def install(self) -> None:
        """Replace `path` by this `successor`, durably."""
        with self._lock:
            install(self.path, self._file.fileno())

    def discard(self) -> None:
        """Remove a `successor` instead of installing it."""
        self.close()
        temporary_name(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self._file.close()

    def _write(self, data: bytes) -> None:
        descriptor = self._file.fileno()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, self._size)
            raise
        self._size += len(data)

    def _scan(self) -> None:
        descriptor = self._file.fileno()
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
