"""What libraries, hosts and clients log, on standard error: records that hold and cost only so much."""

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
    """Warnings and worse as `[WARNING] message`, with control characters as escapes; a traceback is indented below."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. A stream that is closed or breaks is no error."""
        prefix = f"[{record.levelname}] "
        indent = " " * len(prefix)
        text = f"{prefix}{lines(message(record), indent, MOST_CHARACTERS)}\n"
        if told := traceback(record):
            text += f"{indent}{lines(told, indent, MOST_OF_A_TRACEBACK)}\n"
        stream = SafeStream(sys.stderr)
        stream.write(text)
        stream.flush()


def log_to(handler: LogLines) -> None:
    """Have `handler` take what is logged in this process, in place of an earlier one; a program's own handlers stay."""
    root = logging.getLogger()
    if all(isinstance(other, LogLines) for other in root.handlers):
        root.handlers[:] = [handler]


def message(record: logging.LogRecord) -> str:
    """The message of a record without secrets, also of one whose arguments do not fit it."""
    try:
        return masked(record.getMessage())
    except Exception:  # logging a failure must not become one
        return masked(f"{record.msg} {record.args!r}")


def traceback(record: logging.LogRecord) -> str | None:
    """The traceback that belongs to a record, without secrets."""
    return masked(logging.Formatter().formatException(record.exc_info)) if record.exc_info else None
