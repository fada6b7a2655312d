"""What went over a wire, as far as a report needs it."""

from __future__ import annotations

KEPT_BYTES = 64 * 1024
SHOWN_BYTES = 400


class WireCapture:
    """The last bytes of one direction; `total` counts all that went by."""

    def __init__(self) -> None:
        self.total = 0
        self._kept = bytearray()

    def add(self, piece: bytes) -> None:
        """Take what went by."""
        self.total += len(piece)
        self._kept += piece
        del self._kept[:-KEPT_BYTES]

    def __contains__(self, text: bytes) -> bool:
        return text in self._kept

    def excerpt(self) -> str:
        """The end of it, with nothing in it that a terminal would obey."""
        if not self.total:
            return "nothing"
        shown = bytes(self._kept[-SHOWN_BYTES:])
        size = f"{self.total:,} bytes" if len(shown) == self.total else f"the last {len(shown)} of {self.total:,} bytes"
        return f"{size}: {shown!r}"
