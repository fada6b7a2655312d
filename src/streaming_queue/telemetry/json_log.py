"""`--log json`: each message as a JSON record on a line of its own, for a machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

from streaming_queue.masking import masked
from streaming_queue.telemetry.console import Output
from streaming_queue.telemetry.json_lines import encode_line
from streaming_queue.telemetry.log_lines import MOST_CHARACTERS, MOST_OF_A_TRACEBACK, LogLines, message, traceback
from streaming_queue.telemetry.streams import SafeStream
from streaming_queue.telemetry.text import cut, json_visible


class JsonLog(Output):
    """An `Output` that writes records `{"time", "level", "message"}` to standard error, without a display."""

    def __init__(self, *, stderr: IO[str] | None = None) -> None:
        super().__init__(json_lines=True, stderr=stderr)

    def _say(self, level: str, text: object) -> None:
        write_record(self._stream, level, text)

    def render_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary of a run as a record of its own."""
        self._stop_display()
        write_record(self._stream, "SUCCESS", "summary", summary=summary)

    def _is_live(self) -> bool:
        return False


def write_record(stream: SafeStream, level: str, text: object, **more: Any) -> None:
    """Write one record, with its time in UTC (ISO 8601) and at most `MOST_CHARACTERS` of the text."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    shown = cut(masked(str(text)), MOST_CHARACTERS)
    stream.write(json_visible(encode_line({"time": now, "level": level.lower(), "message": shown, **more}).decode()))
    stream.flush()


class JsonLogHandler(LogLines):
    """Log records of libraries and hosts, in the same form."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._records = SafeStream(stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        trace = traceback(record)
        more = {"exception": cut(trace, MOST_OF_A_TRACEBACK)} if trace else {}
        write_record(self._records, record.levelname, message(record), logger=record.name, **more)
