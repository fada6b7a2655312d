"""The open database, its figures, leases and delays in memory, and the transaction around changes."""

from __future__ import annotations

import heapq
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from streaming_queue.errors import QueueError
from streaming_queue.links import refuse_links
from streaming_queue.messages import Counts
from streaming_queue.queue.base import CANCELLED, STATS, RunState, run_state
from streaming_queue.queue.codec import encode_end
from streaming_queue.queue.lock import OwnerLock, refuse_network_file_system
from streaming_queue.queue.naming import Namer
from streaming_queue.queue.sqlite_rows import read_by_keys, read_json
from streaming_queue.queue.sqlite_schema import close_without_checkpoint, connect, files_of, unclean_stop


@dataclass(slots=True)
class Tally:
    """The figures of the queue: the columns of `meta`, written once per transaction."""

    ready: int = 0
    leased: int = 0
    done: int = 0
    dead: int = 0
    last_seq: int = 0
    last_number: int = 0
    revision: int = 0
    re_executions: int = 0
    late_duplicates_rejected: int = 0
    losses: int = 0
    bookmark: str | None = None
    leases_taken_ahead: int = 0
    in_flight: str = "[]"
    sealed: int = 0
    cancelled: int = 0

    @property
    def counts(self) -> Counts:
        """Questions by state."""
        return Counts(self.ready, self.leased, self.done, self.dead)

    @property
    def run_state(self) -> RunState:
        """See `WorkQueue.run_state`."""
        return run_state(sealed=self.sealed, cancelled=self.cancelled, counts=self.counts)

    @property
    def stats(self) -> dict[str, int]:
        """See `WorkQueue.stats`."""
        return {name: getattr(self, name) for name in STATS}


_COLUMNS = tuple(field.name for field in fields(Tally))
_values: Callable[[Tally], tuple[Any, ...]] = attrgetter(*_COLUMNS)
_READ_TALLY = "SELECT {columns} FROM meta".replace("{columns}", ", ".join(_COLUMNS))
_WRITE_TALLY = "UPDATE meta SET {columns}".replace("{columns}", ", ".join(f"{name}=?" for name in _COLUMNS))
_READ_DELAYED = "SELECT json_group_array(json_array(seq, not_before, delay_s)) FROM question WHERE state='delayed'"
_READ_LEASED = "SELECT json_group_array(json_array(seq, fence)) FROM question WHERE state='leased'"
_READ_SENT = "SELECT json_group_array(seq) FROM question WHERE state='leased' AND sent"
_READ_TAKEN = (
    "SELECT json_group_array(json_array(q.qid, b.text)) "
    "FROM question q CROSS JOIN body b ON b.seq = q.seq WHERE q.qid IN {keys}"
)
_LOST = """
INSERT INTO attempt(seq, attempt, fence, ended, outcome)
SELECT seq, attempts + 1, fence, ?, 'lost' FROM question WHERE seq IN (SELECT value FROM json_each(?))
"""
_LOST_READY = """
UPDATE question SET state='ready', sent=sent OR seq IN (SELECT value FROM json_each(?)), not_before=?, leased_at=NULL
WHERE seq IN (SELECT value FROM json_each(?))
"""
_CANCEL = """
UPDATE question SET state='dead', supersedes=number, number=?1 + place, settled_at=?2, failure=?3, delay_s=NULL
FROM (SELECT seq AS open, row_number() OVER (ORDER BY seq) AS place FROM question WHERE state IN ('ready', 'delayed'))
WHERE seq = open
"""
_DUE_READY = "UPDATE question SET state='ready', delay_s=NULL WHERE seq IN (SELECT value FROM json_each(?))"


def read_tally(connection: sqlite3.Connection) -> Tally:
    """The figures that were written last."""
    return Tally(*connection.execute(_READ_TALLY).fetchone())


class State:
    """The database, its lock and its state in memory. One thread opens, uses and closes it.

    Changes join a transaction until `end`. `undo` takes them back, in memory too. Leases expire by `clock` (seconds,
    monotonic).
    """

    def __init__(
        self, path: Path, sends: deque[int], *, lease_s: float, max_open: int | None, clock: Callable[[], float]
    ) -> None:
        """Open or make the database. Leases of an earlier process are void. Raises QueueError.

        Other threads add the seqs of sent questions to `sends`; the next transaction takes them along.
        """
        refuse_links(files_of(path), QueueError)
        self.path = path = path.resolve()
        refuse_network_file_system(path)
        self.lease_s = lease_s
        self.clock = clock
        self.lock = OwnerLock(path)
        self.lock.acquire()
        try:
            self.db = connect(path, unclean=self.lock.left_behind or unclean_stop(path))
        except BaseException:
            self.lock.release(clean=False)
            raise
        # Moments in the database are this process's monotonic time as epoch seconds. So a jump of the wall clock does
        # not delay a question and does not change its waiting time.
        self.opened = time.time()
        self._epoch = self.opened - clock()
        self.namer = Namer(self._taken, max_open)
        self.leases: dict[int, tuple[int, float]] = {}
        """Seq -> fence and moment of expiry, the earliest first: all leases last equally long."""
        self.delayed: dict[int, float] = {}
        """Seq -> the moment from which a lease is possible."""
        self.sent_before: set[int] = set()
        """Leased questions that were sent under an earlier lease."""
        self.in_flight: set[int] = set()
        """Leased questions that were sent under their present lease."""
        self._sends = sends
        self._sends_taken: list[int] = []
        try:
            self._load()
            self._void_leases()
        except BaseException:
            self.close(clean=False)
            raise

    def now(self) -> float:
        """Seconds since the epoch, steady."""
        return self._epoch + self.clock()

    def _load(self) -> None:
        self.tally = read_tally(self.db)
        self._written = _values(self.tally)
        self.in_flight = set(orjson.loads(self.tally.in_flight))
        now, moment = self.now(), self.clock()
        rows = read_json(self.db, _READ_DELAYED)
        self.delayed = {seq: moment + min(delay, max(0.0, due - now)) for seq, due, delay in rows}
        self._heap = [(due, seq) for seq, due in self.delayed.items()]
        heapq.heapify(self._heap)

    def _void_leases(self) -> None:
        seqs = [seq for seq, _ in read_json(self.db, _READ_LEASED)]
        if seqs:
            self.begin()
            self._lose(seqs)
            self.end()

    def _taken(self, ids: Sequence[str]) -> dict[str, str]:
        return dict(read_by_keys(self.db, _READ_TAKEN, ids))

    def _lose(self, seqs: Sequence[int]) -> None:
        """Make leased questions ready again after the loss of their holders; uncounted."""
        keys = orjson.dumps(seqs).decode()
        sent = self.in_flight.intersection(seqs)
        self.db.execute(_LOST, (time.time(), keys))
        self.db.execute(_LOST_READY, (orjson.dumps(list(sent)).decode(), self.now(), keys))
        self.tally.leased -= len(seqs)
        self.tally.ready += len(seqs)
        self.tally.leases_taken_ahead += len(seqs) - len(sent)
        for seq in seqs:
            self.end_lease(seq)
        self.end_if_cancelled()

    def end_if_cancelled(self) -> int:
        """Give up the open questions of a cancelled run. Return their number."""
        tally, count = self.tally, self.tally.ready
        if not tally.cancelled or not count:
            return 0
        self.db.execute(_CANCEL, (tally.last_number, time.time(), encode_end(CANCELLED)))
        tally.ready = 0
        tally.dead += count
        tally.last_number += count
        self.delayed.clear()
        return count

    def end_lease(self, seq: int) -> bool:
        """Forget a lease, if there is one. Return whether there was one."""
        self.sent_before.discard(seq)
        self.in_flight.discard(seq)
        return self.leases.pop(seq, None) is not None

    def _take_sends(self) -> None:
        """Count the sends since the last transaction."""
        while self._sends:
            seq = self._sends.popleft()
            self._sends_taken.append(seq)
            if seq in self.leases:
                self.tally.re_executions += seq in self.sent_before or seq in self.in_flight
                self.in_flight.add(seq)

    @property
    def available(self) -> int:
        """The number of questions that can be leased now."""
        return self.tally.ready - len(self.delayed)

    def next_change(self) -> float:
        """The next moment of `clock` at which a delay ends or a lease expires; infinity if there is none."""
        expiry = next((expires for _, expires in self.leases.values()), float("inf"))
        return min(expiry, self._heap[0][0]) if self._heap else expiry

    def refresh(self) -> None:
        """Make questions ready whose delay ended or whose lease expired."""
        moment = self.clock()
        due = []
        while self._heap and self._heap[0][0] <= moment:
            when, seq = heapq.heappop(self._heap)
            if self.delayed.get(seq) == when:
                due.append(seq)
                del self.delayed[seq]
        expired = []
        for seq, (_, expires) in self.leases.items():
            if expires > moment:
                break
            expired.append(seq)
        if due:
            self.begin()
            self.db.execute(_DUE_READY, (orjson.dumps(due).decode(),))
        if expired:
            self.begin()
            self._lose(expired)

    def delay(self, seq: int, delay_s: float) -> None:
        """Give no lease of a question for `delay_s`."""
        due = self.clock() + delay_s
        self.delayed[seq] = due
        heapq.heappush(self._heap, (due, seq))

    def begin(self) -> None:
        """Start a transaction unless one is open."""
        if not self.db.in_transaction:
            self.db.execute("BEGIN IMMEDIATE")
            self._take_sends()

    def end(self) -> None:
        """Make the changes durable."""
        if not self.db.in_transaction:
            return
        self.tally.in_flight = orjson.dumps(list(self.in_flight)).decode()
        values = _values(self.tally)
        if values != self._written:
            self.db.execute(_WRITE_TALLY, values)
        self.db.execute("COMMIT")
        self._written = values
        self._sends_taken.clear()

    def undo(self) -> None:
        """Take back the changes, and load the state in memory from the database."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        self.namer.forget()
        self._sends.extendleft(reversed(self._sends_taken))
        self._sends_taken.clear()
        self._load()
        new = self.clock() + self.lease_s
        known = {seq: self.leases.get(seq, (fence, new)) for seq, fence in read_json(self.db, _READ_LEASED)}
        self.leases = dict(sorted(known.items(), key=lambda lease: lease[1][1]))
        self.sent_before = set(read_json(self.db, _READ_SENT))

    def close(self, *, clean: bool) -> None:
        """Close and release the lock; idempotent. `clean` checkpoints first, as far as readers allow it."""
        try:
            if clean:
                self.db.execute("PRAGMA busy_timeout=1000")
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            try:
                if clean:
                    self.db.close()
                else:
                    close_without_checkpoint(self.path, self.db)
            finally:
                self.lock.release(clean=clean)
