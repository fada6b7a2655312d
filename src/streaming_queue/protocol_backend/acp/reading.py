"""Reads the events of a run, for a client. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streaming_queue.messages import DELTA, STATUS, Reply, Status, StreamEvent, answer_event, is_event, is_metadata
from streaming_queue.protocol_backend.acp.codec import UnreadableError, part_text
from streaming_queue.protocol_backend.acp.failures import decode_run, event_error

LAST = frozenset({"run.completed", "run.failed", "run.cancelled", "run.awaiting"})
"""The types of the events that end a stream."""


class Reading:
    """Turns ACP's events into ours; the last one sets `reply`."""

    def __init__(self, address: str) -> None:
        self.reply: Reply | None = None
        self._address = address
        self._whole = False

    def take(self, event: Any) -> StreamEvent | None:
        """Our event for the next ACP event; None if it has no equivalent.

        Raises:
            StreamingQueueError: the run failed, was cancelled or awaits input (`decode_run`).
            UnreadableError: it is not an event.
        """
        kind = event.get("type") if isinstance(event, Mapping) else None
        if not isinstance(kind, str):
            raise UnreadableError("the document is not an event")
        if kind == "message.created":
            # A message that is created with its parts is followed by the same parts: skip them.
            self._whole = bool(isinstance(event.get("message"), Mapping) and event["message"].get("parts"))
        elif kind == "message.part" and not self._whole:
            text = part_text(event.get("part"))
            return {"type": DELTA, "data": text} if text else None
        elif kind == "generic":
            return _word(event.get("generic"))
        elif kind == "error":
            raise event_error(event.get("error"), self._address)
        elif kind in LAST:
            self.reply = decode_run(event.get("run"), self._address)
            if self.reply is None:
                raise UnreadableError(f"a {kind} event has a run that is in flight")
            return answer_event(self.reply)
        return None


def _word(generic: Any) -> Status:
    """A status of one of our hosts; a foreign agent's text is a status, too."""
    if is_event(generic) and generic["type"] == STATUS:
        return generic
    word: Status = {"type": STATUS, "data": orjson.dumps(generic).decode()}
    if is_metadata(generic):
        word["metadata"] = generic
    return word
