"""Values that a host keeps for a limited time, such as the answers by idempotency key."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from streaming_queue.messages import Message

K = TypeVar("K")
V = TypeVar("V")

Key = tuple[str | None, str | None]
"""Principal and idempotency key: a key belongs to its principal."""

KEPT_S = 600.0
MAX_ANSWERS = 4096
MAX_CHARACTERS = 16 * 1024 * 1024


class ExpiringCache(Generic[K, V]):
    """The newest values by key, for `kept_s` seconds; at most `most` values, with a total size up to `max_size`."""

    def __init__(
        self,
        most: int,
        *,
        max_size: float = math.inf,
        kept_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._max_size = max_size
        self._kept_s = kept_s
        self._clock = clock
        self._entries: OrderedDict[K, tuple[V, int, float]] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V, size: int = 0) -> None:
        """Keep a value as the newest one. Remove the oldest values if they are expired, too many or too large."""
        self.pop(key)
        now = self._clock()
        self._entries[key] = (value, size, now + self._kept_s)
        self.size += size
        while self._entries:
            oldest, (_, _, until) = next(iter(self._entries.items()))
            if len(self._entries) <= self._most and self.size <= self._max_size and until > now:
                return
            self.pop(oldest)

    def get(self, key: K) -> V | None:
        """The value of this key, None if the cache has none or the value is expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[2] <= self._clock():
            self.pop(key)
            return None
        return entry[0]

    def pop(self, key: K) -> None:
        """Remove the value of this key."""
        if (entry := self._entries.pop(key, None)) is not None:
            self.size -= entry[1]

    def items(self) -> Iterator[tuple[K, V]]:
        """The keys and values, the oldest first."""
        return ((key, value) for key, (value, _, _) in self._entries.items())

    def clear(self) -> None:
        """Remove all values."""
        self._entries.clear()
        self.size = 0


class Repeat:
    """An executor that repeats a kept answer."""

    def __init__(self, end: Message) -> None:
        self._end = end

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Send the kept answer again."""
        del context
        await event_queue.enqueue_event(self._end)


class IdempotencyCache(ExpiringCache[Key, tuple[str, Message]]):
    """The last questions and answers by key: a caller that lost the reply gets it, and the work does not run again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(MAX_ANSWERS, max_size=MAX_CHARACTERS, kept_s=KEPT_S, clock=clock)

    def keep(self, key: Key, question: str, end: Message) -> None:
        """Keep the answer `end` (an `agent_text_message`) to `question`."""
        self.put(key, (question, end), len(question) + len(end["data"]))
