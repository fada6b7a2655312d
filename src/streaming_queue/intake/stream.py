"""Bytes from a file or a pipe. A read can be bounded and can be stopped."""

from __future__ import annotations

import io
import os
import select
import socket
import stat
import sys
import threading
import time

from streaming_queue.errors import ConfigError

CHUNK_BYTES = 64 * 1024


class FileStream:
    """A file, a FIFO, or standard input (`path` None). `stop` ends a read in another thread at once."""

    def __init__(self, name: str, path: str | None) -> None:
        self.rereadable = False
        self._name = name
        self._path = path
        self._file: io.FileIO | None = None
        self._poll: select.poll | None = None
        self._woken, self._waker = socket.socketpair()
        self._stopped = threading.Event()

    def open(self) -> None:
        """Open it, without waiting for a FIFO's writer. Raises ConfigError."""
        if self._path is None and sys.__stdin__ is None:  # closed at the start, so descriptor 0 is another file now
            raise ConfigError(f"{self._name} is closed; give a JSONL or CSV file")
        try:
            # Without O_NONBLOCK the opening of a FIFO waits for a writer.
            self._file = (
                io.FileIO(0, closefd=False)
                if self._path is None
                else io.FileIO(self._path, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))
            )
            mode = os.fstat(self._file.fileno()).st_mode
        except FileNotFoundError:
            raise ConfigError(
                f"{self._name}: there is no such file; give a JSONL or CSV file, or - for standard input"
            ) from None
        except IsADirectoryError:
            raise ConfigError(f"{self._name} is a directory; give a JSONL or CSV file in it") from None
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        if stat.S_ISREG(mode):
            self.rereadable = self._path is not None
            return
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        self._poll = poll

    def read(self, until: float | None) -> bytes | None:
        """Bytes; `b""` at the end; None after `stop`, or if nothing came before `until` (monotonic; None: no limit).

        Blocks: call it in a thread. Raises ConfigError.
        """
        if self._file is None:
            raise ValueError("the stream is not open")
        while not self._stopped.is_set():
            if self._poll is not None:
                wait_ms = None if until is None else max(0.0, until - time.monotonic()) * 1000
                if not self._poll.poll(wait_ms):
                    return None
                if self._stopped.is_set():
                    break
            try:
                data = self._file.read(CHUNK_BYTES)
            except OSError as error:
                raise self._unreadable(error) from error
            if data is not None:
                return data
        return None

    def stop(self) -> None:
        """End the present `read` and all later ones."""
        self._stopped.set()
        self._waker.close()

    def close(self) -> None:
        """Close the file (not standard input); idempotent. No thread may be in `read`."""
        self.stop()
        if self._file is not None:
            self._file.close()
        self._woken.close()

    def _unreadable(self, error: Exception) -> ConfigError:
        reason = error.strerror if isinstance(error, OSError) else error
        return ConfigError(f"{self._name} cannot be read: {reason}")
