"""The size limit of an answer, the same over every protocol, and the meter that applies it."""

from __future__ import annotations

from streaming_queue.comm.context import progressed
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import DELTA, MESSAGE, StreamEvent

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""The limit of an answer's text in UTF-8: the sum of its deltas, or the whole."""
MAX_EVENT_BYTES = 2 * MAX_ANSWER_BYTES
"""The limit of one event on the wire, or of an answer in one body, with the protocol's own fields."""


def text_bytes(text: str) -> int:
    """The size of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def over_limit(origin: str = "", what: str = "the answer", limit: int = MAX_ANSWER_BYTES) -> ProtocolError:
    """The error for an answer over the limit. It is retryable: another agent may answer in fewer words."""
    said = f"{what} is over the limit of {limit} bytes"
    return ProtocolError(f"{origin}: {said}" if origin else said)


def check_size(size: int, origin: str) -> None:
    """Raise ProtocolError when an answer of `size` bytes is over the limit."""
    if size > MAX_ANSWER_BYTES:
        raise over_limit(origin, limit=MAX_ANSWER_BYTES)


class AnswerMeter:
    """Counts the text of one answer as it arrives, in the caller's task. The error shows `origin`."""

    __slots__ = ("_origin", "_size")

    def __init__(self, origin: str = "") -> None:
        self._origin = origin
        self._size = 0

    def take(self, event: StreamEvent) -> None:
        """Count an event, and report a delta as content. Raises ProtocolError when its answer is over the limit."""
        if event["type"] == DELTA:
            progressed()
            self._size += text_bytes(event["data"])
            check_size(self._size, self._origin)
        elif event["type"] == MESSAGE:
            self.whole(event["data"])

    def whole(self, text: str) -> None:
        """Check a whole answer. Raises like `take`."""
        check_size(text_bytes(text), self._origin)
