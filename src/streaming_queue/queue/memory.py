"""The queue in memory: the same promises for the life of the process."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from streaming_queue.messages import Failure, PutReport, Question, Result, SourceChecks
from streaming_queue.queue.base import (
    CANCELLED,
    AttemptRecord,
    Lease,
    RunState,
    WorkQueue,
    closed_error,
    run_state,
)
from streaming_queue.queue.codec import encode_bookmark
from streaming_queue.queue.memory_log import MemoryEntry
from streaming_queue.queue.memory_record import MemoryRecord
from streaming_queue.queue.naming import Namer

Waiter = tuple[int, asyncio.Future[list[Lease]]]
"""The limit and the future of a `lease` that found nothing yet."""


class MemoryQueue(MemoryRecord, WorkQueue):
    """A queue in memory: nothing survives the process.

    A lease lasts `lease_s` of `clock` (seconds, monotonic). `put` refuses a batch that would make more than `max_open`
    questions open.
    """

    def __init__(
        self, *, lease_s: float = 60.0, max_open: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._lease_s = lease_s
        self._clock = clock
        self._last_seq = 0
        self._ready: list[int] = []
        self._delayed: list[tuple[float, int]] = []
        self._leases: dict[int, tuple[int, float]] = {}
        self._namer = Namer(self._taken, max_open)
        self._waiters: deque[Waiter] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._paused = False
        self._sealed = self._cancelled = False

    def _taken(self, ids: Sequence[str]) -> dict[str, str]:
        return {id_: self._entries[self._seqs[id_]].question.text for id_ in ids if id_ in self._seqs}

    def _move(self, entry: MemoryEntry, state: str) -> None:
        self._counts[entry.state] -= 1
        self._counts[state] += 1
        entry.state = state

    def _make_ready(self, seq: int) -> None:
        self._move(self._entries[seq], "ready")
        heapq.heappush(self._ready, seq)

    async def put(
        self,
        questions: Sequence[Question],
        *,
        bookmark: Mapping[str, Any] | None = None,
        checks: SourceChecks | None = None,
    ) -> PutReport:
        """See WorkQueue."""
        self._check_open()
        mark = None if bookmark is None else encode_bookmark(bookmark)
        if questions and (self._sealed or self._cancelled):
            raise closed_error(await self.run_state())
        naming = self._namer.name(questions, self._not_leased + self._counts["leased"])
        now = self._clock()
        for name, question in naming.new:
            self._last_seq += 1
            self._seqs[name] = self._last_seq
            self._entries[self._last_seq] = MemoryEntry(name, replace(question, id=name), now)
            self._counts["ready"] += 1
            heapq.heappush(self._ready, self._last_seq)
        if mark is not None:
            self._bookmark = mark
        if checks is not None:
            checks.put_into(self._source_checks)
        self._serve()
        return naming.report

    async def lease(self, limit: int, wait_s: float = 0.0) -> list[Lease]:
        """See WorkQueue."""
        self._check_open()
        if limit < 1:
            return []
        leases = self._claim(limit)
        if leases or wait_s <= 0:
            return leases
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Lease]] = loop.create_future()
        self._waiters.append((limit, future))
        self._serve()
        timer = loop.call_later(wait_s, _give_up, future)
        try:
            leases = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._unclaim(future.result())
            raise
        finally:
            timer.cancel()
            with suppress(ValueError):
                self._waiters.remove((limit, future))
        if leases and self._paused:
            self._unclaim(leases)
            return []
        return leases

    def _serve(self) -> None:
        """Give ready questions to waiting calls, and set the alarm for the next one."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._waiters:
            limit, future = self._waiters[0]
            if not future.done():
                leases = self._claim(limit)
                if not leases:
                    break
                future.set_result(leases)
            self._waiters.popleft()
        if self._waiters and not self._paused:
            moments = [due for due, _ in self._delayed[:1]]
            moments += [expires for _, expires in islice(self._leases.values(), 1)]
            if moments:
                delay = min(max(0.0, min(moments) - self._clock()), 3600.0)
                self._alarm = asyncio.get_running_loop().call_later(delay, self._serve)

    def _refresh(self) -> None:
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            _, seq = heapq.heappop(self._delayed)
            entry = self._entries.get(seq)
            if entry is not None and entry.state == "delayed":
                self._make_ready(seq)
        while self._leases:
            seq, (_, expires) = next(iter(self._leases.items()))
            if expires > now:
                break
            del self._leases[seq]
            entry = self._entries[seq]
            entry.since = now
            self._end_lease(entry)
            lost = AttemptRecord(entry.name, entry.attempts + 1, entry.fence, None, None, None, time.time(), "lost")
            entry.history.append(lost)
            self._make_ready(seq)
        self._end_if_cancelled()

    def _claim(self, limit: int) -> list[Lease]:
        leases: list[Lease] = []
        if self._paused:
            return leases
        self._refresh()
        now = self._clock()
        while self._ready and len(leases) < limit:
            seq = heapq.heappop(self._ready)
            entry = self._entries.get(seq)
            if entry is None or entry.state != "ready":
                continue
            self._move(entry, "leased")
            entry.fence += 1
            self._leases[seq] = (entry.fence, now + self._lease_s)
            waited_ms = (now - entry.since) * 1000
            leases.append(Lease(entry.question, entry.attempts + 1, entry.fence, waited_ms, entry.losses, seq))
        return leases

    def _unclaim(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            if not self._closed and self._holds(lease):
                self._drop(lease).in_flight = False
                self._make_ready(lease.payload)
        self._end_if_cancelled()
        self._serve()

    def _holds(self, lease: Lease) -> bool:
        held = self._leases.get(lease.payload)
        return held is not None and held[0] == lease.fence

    def _drop(self, lease: Lease) -> MemoryEntry:
        self._check_open()
        if not self._holds(lease):
            raise lease.lost_error()
        del self._leases[lease.payload]
        return self._entries[lease.payload]

    def sent(self, lease: Lease) -> None:
        """See WorkQueue."""
        entry = self._entries.get(lease.payload)
        if entry is not None and entry.state == "leased":
            self._stats["re_executions"] += entry.sent or entry.in_flight
            entry.in_flight = True

    def _end_lease(self, entry: MemoryEntry, *, failed: bool = False, refused: bool = False) -> None:
        """Note whether the question was sent under a lease that ended without an answer: a failure proves it."""
        if refused:
            self._stats["re_executions"] -= entry.in_flight and entry.sent
        else:
            sent = entry.in_flight or failed
            self._stats["leases_taken_ahead"] += not sent
            entry.sent = entry.sent or sent
        entry.in_flight = False

    def _take_end_back(self, entry: MemoryEntry) -> None:
        del self._dead[entry.name]
        self._revision += 1

    async def commit(self, lease: Lease, result: Result) -> bool:
        """See WorkQueue."""
        self._check_open()
        if not isinstance(lease.payload, int):
            raise lease.foreign_error()
        entry = self._entries.get(lease.payload)
        first = entry is not None and entry.state != "done"
        if not first:
            self._stats["late_duplicates_rejected"] += 1
        if entry is None:
            return False
        entry.history.append(AttemptRecord.of(lease, "answered" if first else "late", result))
        if first:
            self._leases.pop(lease.payload, None)
            if entry.state == "dead":
                self._take_end_back(entry)
            self._move(entry, "done")
            entry.in_flight = False
            entry.attempts = max(entry.attempts, lease.attempt)
            self._log.add(entry, result)
        return first

    async def retry(self, lease: Lease, delay_s: float, failure: Failure) -> None:
        """See WorkQueue."""
        self._give_back(lease, delay_s, "retried", failure)

    async def release(
        self, lease: Lease, delay_s: float = 0.0, *, failure: Failure | None = None, refused: bool = False
    ) -> None:
        """See WorkQueue."""
        self._give_back(lease, delay_s, "released" if failure is None else "lost", failure, refused=refused)

    def _give_back(
        self, lease: Lease, delay_s: float, outcome: str, failure: Failure | None, *, refused: bool = False
    ) -> None:
        entry = self._drop(lease)
        entry.attempts += outcome == "retried"
        entry.losses += outcome == "lost"
        self._stats["losses"] += outcome == "lost"
        self._end_lease(entry, failed=failure is not None, refused=refused)
        entry.since = self._clock()
        if delay_s > 0:
            entry.since += delay_s
            self._move(entry, "delayed")
            heapq.heappush(self._delayed, (entry.since, lease.payload))
        else:
            self._make_ready(lease.payload)
        entry.history.append(AttemptRecord.of(lease, outcome, failure))
        self._end_if_cancelled()
        self._serve()

    async def bury(self, lease: Lease, failure: Failure) -> None:
        """See WorkQueue."""
        entry = self._drop(lease)
        self._end_lease(entry, failed=True)
        self._move(entry, "dead")
        entry.attempts += 1
        self._log.add(entry, failure=failure)
        self._dead[entry.name] = entry
        entry.history.append(AttemptRecord.of(lease, "buried", failure))

    async def extend(self, lease: Lease) -> None:
        """See WorkQueue."""
        self._drop(lease)
        self._leases[lease.payload] = (lease.fence, self._clock() + self._lease_s)

    async def seal(self) -> None:
        """See WorkQueue."""
        self._check_open()
        self._sealed = True

    async def cancel(self) -> int:
        """See WorkQueue."""
        self._check_open()
        self._cancelled = True
        return self._end_if_cancelled()

    def _end_if_cancelled(self) -> int:
        """Give up the open questions of a cancelled run. Return their number."""
        if not self._cancelled:
            return 0
        ended = [entry for entry in self._entries.values() if entry.state in ("ready", "delayed")]
        for entry in ended:
            self._move(entry, "dead")
            self._log.add(entry, failure=CANCELLED)
            self._dead[entry.name] = entry
        return len(ended)

    async def run_state(self) -> RunState:
        """See WorkQueue."""
        return run_state(sealed=self._sealed, cancelled=self._cancelled, counts=await self.counts())

    async def replay(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """See WorkQueue."""
        if self._cancelled:
            raise closed_error("cancelled", "replays no dead letter")
        chosen = self._chosen(ids, failure_type)
        for entry in chosen:
            self._take_end_back(entry)
            entry.attempts = entry.losses = 0
            self._log.add(entry)
            entry.since = self._clock()
            self._make_ready(self._seqs[entry.name])
        self._serve()
        return len(chosen)

    async def purge(self, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """See WorkQueue."""
        chosen = self._chosen(ids, failure_type)
        for entry in chosen:
            self._take_end_back(entry)
            entry.attempts = 0
            self._log.add(entry, purged=True)
            self._counts["dead"] -= 1
            del self._entries[self._seqs.pop(entry.name)]
        self._namer.forget()
        return len(chosen)

    def pause(self) -> None:
        """See WorkQueue."""
        self._check_open()
        self._paused = True

    def resume(self) -> None:
        """See WorkQueue."""
        self._check_open()
        self._paused = False
        self._serve()

    async def close(self) -> None:
        """Return no leases to the waiting calls; idempotent."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        while self._waiters:
            _give_up(self._waiters.popleft()[1])


def _give_up(future: asyncio.Future[list[Lease]]) -> None:
    if not future.done():
        future.set_result([])
