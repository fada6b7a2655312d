"""What a queue in memory knows: its questions, their records and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

from streaming_queue.errors import QueueClosedError
from streaming_queue.messages import Counts, Outcome
from streaming_queue.queue.base import STATS, AttemptRecord, Record
from streaming_queue.queue.codec import decode_bookmark
from streaming_queue.queue.memory_log import MemoryEntry, MemoryLog


class MemoryRecord(Record):
    """The state of a queue in memory, and the operations that only read it."""

    def __init__(self) -> None:
        self._entries: dict[int, MemoryEntry] = {}
        self._seqs: dict[str, int] = {}
        self._log = MemoryLog()
        self._dead: dict[str, MemoryEntry] = {}
        self._counts = {"ready": 0, "delayed": 0, "leased": 0, "done": 0, "dead": 0}
        self._stats = dict.fromkeys(STATS, 0)
        self._revision = 0
        self._bookmark: str | None = None
        self._source_checks = bytearray()
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosedError("the queue is closed")

    @property
    def _not_leased(self) -> int:
        return self._counts["ready"] + self._counts["delayed"]

    async def bookmark(self) -> dict[str, Any] | None:
        """See WorkQueue."""
        self._check_open()
        return decode_bookmark(self._bookmark)

    async def source_checks(self) -> bytes:
        """See WorkQueue."""
        self._check_open()
        return bytes(self._source_checks)

    async def counts(self) -> Counts:
        """See WorkQueue."""
        self._check_open()
        counts = self._counts
        return Counts(self._not_leased, counts["leased"], counts["done"], counts["dead"])

    async def results(self, after: int = 0, limit: int = 1000) -> list[Outcome]:
        """See WorkQueue."""
        self._check_open()
        return list(islice(self._log.after(after), max(0, limit)))

    async def number_of(self, cursor: str) -> int:
        """See WorkQueue."""
        self._check_open()
        return self._log.number_of(cursor)

    async def revision(self) -> int:
        """See WorkQueue."""
        self._check_open()
        return self._revision

    async def dead(self, limit: int = 1000, *, after: int = 0, failure_type: str | None = None) -> list[Outcome]:
        """See WorkQueue."""
        chosen = (entry.outcome for entry in self._chosen(None, failure_type))
        return list(islice((outcome for outcome in chosen if outcome and outcome.number > after), max(0, limit)))

    async def dead_letter(self, question_id: str) -> Outcome | None:
        """See WorkQueue."""
        return next((entry.outcome for entry in self._chosen([question_id], None)), None)

    async def reasons(self) -> dict[str, int]:
        """See WorkQueue."""
        types = Counter(str(entry.failure_type) for entry in self._chosen(None, None))
        return dict(sorted(types.items(), key=lambda item: (-item[1], item[0])))

    async def attempts(self, question_id: str) -> list[AttemptRecord]:
        """See WorkQueue."""
        self._check_open()
        seq = self._seqs.get(question_id)
        return [] if seq is None else list(self._entries[seq].history)

    async def stats(self) -> dict[str, int]:
        """See WorkQueue."""
        self._check_open()
        return dict(self._stats)

    def _chosen(self, ids: Sequence[str] | None, failure_type: str | None) -> list[MemoryEntry]:
        self._check_open()
        found = [self._dead[name] for name in dict.fromkeys(self._dead if ids is None else ids) if name in self._dead]
        found.sort(key=lambda entry: entry.number)
        return [entry for entry in found if failure_type in (None, entry.failure_type)]
