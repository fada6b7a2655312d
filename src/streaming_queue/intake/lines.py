"""Bytes into lines, with at most one unfinished line in memory."""

from __future__ import annotations

MAX_LINE_BYTES = 1024 * 1024
"""A longer line, or a longer row over several lines, is skipped."""

TOO_LONG = f"over 1 MB ({MAX_LINE_BYTES:,} bytes)"


class LineBuffer:
    r"""Cuts its input at `\n`. A line over `MAX_LINE_BYTES` becomes None and is never in memory as a whole."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._too_long = False

    def feed(self, data: bytes) -> list[bytes | None]:
        r"""The lines that `data` completes, without their `\n`; a `\r` before it stays."""
        first, *others = data.split(b"\n")
        self._hold(first)
        if not others:
            return []
        tail = others.pop()
        lines = [self._take(), *others]
        self._hold(tail)
        return lines

    def finish(self) -> list[bytes | None]:
        r"""The last line, if it had no `\n`."""
        return [self._take()] if self._rest or self._too_long else []

    def _hold(self, part: bytes) -> None:
        if self._too_long:
            return
        self._rest += part
        if len(self._rest) > MAX_LINE_BYTES + 1:
            self._rest.clear()
            self._too_long = True

    def _take(self) -> bytes | None:
        line = bytes(self._rest)
        too_long = self._too_long or len(line) - line.endswith(b"\r") > MAX_LINE_BYTES
        self._rest.clear()
        self._too_long = False
        return None if too_long else line
