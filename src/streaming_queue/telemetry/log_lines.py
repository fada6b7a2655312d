"""Log records of libraries, hosts and clients on standard error, bounded in size."""

from __future__ import annotations

import logging
import sys

from streaming_queue.masking import masked
from streaming_queue.telemetry.streams import SafeStream
from streaming_queue.telemetry.text import lines

MOST_CHARACTERS = 2000
"""Characters of a record's message; the rest is counted."""
MOST_OF_A_TRACEBACK = 8000


class LogLines(logging.Handler):
    """Prints warnings and errors as `[WARNING] message`, with control characters as escapes and tracebacks indented."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. A failed write is not an error."""
        prefix = f"[{record.levelname}] "
        indent = " " * len(prefix)
        text = f"{prefix}{lines(message(record), indent, MOST_CHARACTERS)}\n"
        if trace := traceback(record):
            text += f"{indent}{lines(trace, indent, MOST_OF_A_TRACEBACK)}\n"
        stream = SafeStream(sys.stderr)
        stream.write(text)
        stream.flush()


def log_to(handler: LogLines) -> None:
    """Send this process's log records to `handler`, in place of an earlier one; a program's own handlers stay."""
    root = logging.getLogger()
    if all(isinstance(other, LogLines) for other in root.handlers):
        root.handlers[:] = [handler]


def message(record: logging.LogRecord) -> str:
    """The message of a record without secrets, even if its arguments do not fit."""
    try:
        return masked(record.getMessage())
    except Exception:  # a log call must not fail
        return masked(f"{record.msg} {record.args!r}")


def traceback(record: logging.LogRecord) -> str | None:
    """The traceback of a record without secrets, None if it has none."""
    return masked(logging.Formatter().formatException(record.exc_info)) if record.exc_info else None
