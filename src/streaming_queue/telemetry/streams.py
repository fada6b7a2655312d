"""Standard output and error, for a run that must go on when the reader of a stream goes away."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

writing: set[int] = set()
"""The threads that write to a stream now. A terminal that is paused holds them, which is no fault of theirs."""


class SafeStream:
    """A stream for `print`, rich and bytes. After the first failed write it is `broken` and drops the rest.

    A character that the stream's encoding lacks is written as its backslash escape. The descriptor of a broken stream
    then points to the null device, so that the interpreter's own flush at exit raises nothing.
    """

    def __init__(self, stream: Any | None) -> None:
        """`stream` is a text or binary file; None (a closed standard stream) counts as broken."""
        self._stream = stream
        self.broken = stream is None
        self.failure: OSError | None = None
        """The error that broke it, None if its reader went away."""

    @property
    def encoding(self) -> str:
        """The stream's encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self._stream is not None and bool(self._stream.isatty())
        except (OSError, ValueError, AttributeError):
            return False

    def fileno(self) -> int:
        """The stream's descriptor. Raises OSError if there is none."""
        if self._stream is None:
            raise OSError("the stream is closed")
        return int(self._stream.fileno())

    def write(self, text: str) -> int:
        """Write `text`; returns its length."""
        try:
            self._attempt(text)
        except UnicodeEncodeError:
            self._attempt(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write `data` to a binary stream and flush."""
        self._attempt(data)
        self.flush()

    def flush(self) -> None:
        """Write out the buffer."""
        if not self.broken and self._stream is not None:
            with self._held():
                self._stream.flush()

    def _attempt(self, data: str | bytes) -> None:
        if self.broken or self._stream is None:
            return
        with self._held():
            self._stream.write(data)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        thread = threading.get_ident()
        writing.add(thread)
        try:
            yield
        except UnicodeEncodeError:
            raise
        except (OSError, ValueError) as error:
            self._give_up(error)
        finally:
            writing.discard(thread)

    def _give_up(self, error: OSError | ValueError) -> None:
        self.broken = True
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self.failure = error
        with contextlib.suppress(OSError, ValueError):  # not a real file, or closed: no flush will fail
            descriptor = self.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, descriptor)
            finally:
                os.close(null)
