"""Answers kept for a while, so that whoever lost the reply gets it without the work being done again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streaming_queue.messages import StreamEvent

Key = tuple[str | None, str | None]
"""Principal and idempotency key: a key is its principal's own."""

KEPT_S = 600.0
MAX_ANSWERS = 4096
MAX_CHARACTERS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Kept:
    question: str
    end: StreamEvent
    until: float

    @property
    def size(self) -> int:
        return len(self.question) + len(self.end["data"])


class Repeat:
    """An executor that gives a kept answer."""

    def __init__(self, end: StreamEvent) -> None:
        self._end = end

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer as before."""
        del context
        await event_queue.enqueue_event(self._end)


class IdempotencyCache:
    """The last answers by key: for ten minutes, 4096 of them and 16 million characters at the most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: Key, question: str, end: StreamEvent) -> None:
        """Keep the answer `end` (an `agent_text_message`) to `question`; the oldest go where it gets too much."""
        self._drop(key)
        kept = self._kept[key] = _Kept(question, end, self._clock() + KEPT_S)
        self._size += kept.size
        while self._kept and (
            len(self._kept) > MAX_ANSWERS
            or self._size > MAX_CHARACTERS
            or next(iter(self._kept.values())).until <= self._clock()
        ):
            self._drop(next(iter(self._kept)))

    def find(self, key: Key) -> tuple[str, StreamEvent] | None:
        """The question and its answer, None where there is none (any more)."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= self._clock():
            self._drop(key)
            return None
        return kept.question, kept.end

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._size = 0

    def _drop(self, key: Key) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._size -= kept.size
