"""The operations of a queue as changes to the database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

import orjson

from streaming_queue.messages import Failure, PutReport, Question, Result, SourceChecks
from streaming_queue.queue.base import AttemptRecord, Lease, closed_error
from streaming_queue.queue.codec import encode_end
from streaming_queue.queue.sqlite_rows import CLAIMABLE, PAGE, read_by_keys, read_json, write_rows
from streaming_queue.queue.sqlite_state import State

if TYPE_CHECKING:
    from streaming_queue.queue.writer_jobs import Commit

_PUT_QUESTION = """
INSERT INTO question(seq, qid, not_before) SELECT column1, column2, ? FROM {rows} WHERE column1 IS NOT NULL
"""
_PUT_BODY = """
INSERT INTO body(seq, text, reference) SELECT column1, column2, column3 FROM {rows} WHERE column1 IS NOT NULL
"""
_CLAIM = "UPDATE question SET state='leased', fence=fence+1, leased_at=? WHERE seq IN (SELECT value FROM json_each(?))"
_UNCLAIM = "UPDATE question SET state='ready', leased_at=NULL WHERE seq IN (SELECT value FROM json_each(?))"
_STATES = "SELECT json_group_array(json_array(seq, state)) FROM question WHERE seq IN (SELECT value FROM json_each(?))"
_PUT_RESULT = """
INSERT INTO result(seq, attempt, fence, committed_at, body)
SELECT column1, column2, column3, ?, column4 FROM {rows} WHERE column1 IS NOT NULL
"""
_SETTLE = """
UPDATE question SET state='done', supersedes=number, number=v.column2, attempts=max(attempts, v.column3), settled_at=?,
    delay_s=NULL, leased_at=NULL, failure=NULL
FROM {rows} AS v WHERE question.seq = v.column1
"""
_GIVE_BACK = """
UPDATE question SET state=?, not_before=?, delay_s=?, attempts=attempts+?, losses=losses+?, sent=max(sent, ?),
    leased_at=NULL
WHERE seq=?
"""
_BURY = """
UPDATE question SET state='dead', supersedes=number, number=?, settled_at=?, attempts=attempts+1, sent=1,
    failure=?, leased_at=NULL
WHERE seq=?
"""
_PUT_ATTEMPT = """
INSERT INTO attempt(seq, attempt, fence, worker, protocol, started, ended, outcome, failure)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_of_attempt = attrgetter("attempt", "fence", "worker", "protocol", "started", "ended", "outcome")
_DEAD = """
SELECT json_group_array(json_array(number, seq, qid)) FROM question
WHERE state='dead' AND (?1 IS NULL OR json_extract(failure, '$.type') = ?1)
"""
_REPLAY = """
UPDATE question SET state='ready', attempts=0, losses=0, not_before=?, supersedes=number, number=v.column2,
    settled_at=?, failure=NULL
FROM {rows} AS v WHERE question.seq = v.column1
"""
_PUT_PURGED = """
INSERT INTO purged(number, qid, supersedes, settled_at)
SELECT column1, column2, column3, ? FROM {rows} WHERE column1 IS NOT NULL
"""
_PURGE = "DELETE FROM question WHERE seq IN (SELECT value FROM json_each(?))"


class Store(State):
    """The operations. A change joins the open transaction. An operation that raises a QueueError changed nothing."""

    def put(self, questions: Sequence[Question], bookmark: str | None, checks: SourceChecks | None = None) -> PutReport:
        """See `WorkQueue.put`; `bookmark` is JSON."""
        tally = self.tally
        if questions and (tally.sealed or tally.cancelled):
            raise closed_error(tally.run_state)
        naming = self.namer.name(questions, tally.ready + tally.leased)
        new = naming.new
        if new or bookmark is not None or checks is not None:
            self.begin()
        if new:
            first = tally.last_seq + 1
            names = [(seq, name) for seq, (name, _) in enumerate(new, first)]
            bodies = [(seq, question.text, question.reference) for seq, (_, question) in enumerate(new, first)]
            write_rows(self.db, _PUT_QUESTION, names, self.now())
            write_rows(self.db, _PUT_BODY, bodies)
            tally.last_seq += len(new)
            tally.ready += len(new)
        if bookmark is not None:
            tally.bookmark = bookmark
        if checks is not None:
            self.db.execute("DELETE FROM source_check WHERE lines >= ?", (checks.lines,))
            self.db.execute("INSERT INTO source_check VALUES (?, ?)", (checks.lines, checks.checks))
        return naming.report

    def claim(self, limit: int) -> list[Lease]:
        """Lease up to `limit` ready questions."""
        leases: list[Lease] = []
        while (wanted := min(PAGE, limit - len(leases), self.available)) > 0:
            self.begin()
            now, expires = self.now(), self.clock() + self.lease_s
            rows = read_json(self.db, CLAIMABLE, wanted)
            self.db.execute(_CLAIM, (time.time(), orjson.dumps([row[0] for row in rows]).decode()))
            self.tally.ready -= len(rows)
            self.tally.leased += len(rows)
            for seq, qid, text, reference, attempts, fence, sent, not_before, losses in rows:
                self.leases[seq] = (fence + 1, expires)
                if sent:
                    self.sent_before.add(seq)
                waited_ms = max(0.0, now - max(not_before, self.opened)) * 1000
                leases.append(Lease(Question(text, qid, reference), attempts + 1, fence + 1, waited_ms, losses, seq))
        return leases

    def unclaim(self, leases: Sequence[Lease]) -> None:
        """Take back leases that no caller received, without history."""
        seqs = [lease.payload for lease in leases if self._holds(lease)]
        if seqs:
            self.begin()
            self.db.execute(_UNCLAIM, (orjson.dumps(seqs).decode(),))
            self.tally.leased -= len(seqs)
            self.tally.ready += len(seqs)
            for seq in seqs:
                self.end_lease(seq)
            self.end_if_cancelled()

    def commit(self, answers: Sequence[Commit]) -> list[bool]:
        """Record answers. Return for each whether it was the first of its question."""
        outside = [answer.lease.payload for answer in answers if answer.lease.payload not in self.leases]
        states: dict[int, str] = dict(read_json(self.db, _STATES, orjson.dumps(outside).decode())) if outside else {}
        tally, now = self.tally, time.time()
        results: list[tuple[object, ...]] = []
        large: list[Commit] = []
        settled: list[tuple[int, int, int]] = []
        verdicts: list[bool] = []
        self.begin()
        for answer in answers:
            lease = answer.lease
            seq: int = lease.payload
            state = "leased" if self.end_lease(seq) else states.get(seq)
            verdicts.append(state not in (None, "done"))
            if not verdicts[-1]:
                tally.late_duplicates_rejected += 1
                if state is not None:
                    self._remember(lease, "late", answer.result)
                continue
            states[seq] = "done"
            if state == "leased":
                tally.leased -= 1
            elif state == "dead":
                tally.dead -= 1
                tally.revision += 1
            else:
                tally.ready -= 1
                self.delayed.pop(seq, None)
            tally.done += 1
            tally.last_number += 1
            if answer.body is None:
                large.append(answer)
            else:
                results.append((seq, lease.attempt, lease.fence, answer.body))
            settled.append((seq, tally.last_number, lease.attempt))
        write_rows(self.db, _PUT_RESULT, results, now)
        for answer in large:
            lease, body = answer.lease, encode_end(answer.result)
            write_rows(self.db, _PUT_RESULT, [(lease.payload, lease.attempt, lease.fence, body)], now)
        if settled:
            write_rows(self.db, _SETTLE, settled, now)
        return verdicts

    def give_back(
        self, lease: Lease, delay_s: float, outcome: str, failure: Failure | None, *, refused: bool = False
    ) -> None:
        """Give back a lease; `outcome` is retried, released or lost."""
        seq, sent = self._drop(lease, failure, refused=refused)
        delayed = delay_s > 0
        lost = outcome == "lost"
        self.db.execute(
            _GIVE_BACK,
            (
                "delayed" if delayed else "ready",
                self.now() + (delay_s if delayed else 0.0),
                delay_s if delayed else None,
                outcome == "retried",
                lost,
                sent,
                seq,
            ),
        )
        self.tally.leased -= 1
        self.tally.ready += 1
        self.tally.losses += lost
        self.tally.leases_taken_ahead += not (sent or refused)
        if delayed:
            self.delay(seq, delay_s)
        self._remember(lease, outcome, failure)
        self.end_if_cancelled()

    def bury(self, lease: Lease, failure: Failure) -> None:
        """See `WorkQueue.bury`."""
        seq, _ = self._drop(lease, failure)
        tally = self.tally
        tally.leased -= 1
        tally.dead += 1
        tally.last_number += 1
        self.db.execute(_BURY, (tally.last_number, time.time(), encode_end(failure), seq))
        self._remember(lease, "buried", failure)

    def extend(self, lease: Lease) -> None:
        """See `WorkQueue.extend`."""
        if not self._holds(lease):
            raise lease.lost_error()
        del self.leases[lease.payload]
        self.leases[lease.payload] = (lease.fence, self.clock() + self.lease_s)

    def seal(self) -> None:
        """See `WorkQueue.seal`."""
        if not self.tally.sealed:
            self.begin()
            self.tally.sealed = 1

    def cancel(self) -> int:
        """See `WorkQueue.cancel`."""
        self.begin()
        self.tally.cancelled = 1
        return self.end_if_cancelled()

    def replay(self, ids: Sequence[str] | None, failure_type: str | None) -> int:
        """See `WorkQueue.replay`."""
        if self.tally.cancelled:
            raise closed_error("cancelled", "replays no dead letter")
        dead = self._dead(ids, failure_type)
        if dead:
            self.begin()
            rows = [(seq, number) for number, (_, seq, _) in enumerate(dead, self.tally.last_number + 1)]
            write_rows(self.db, _REPLAY, rows, self.now(), time.time())
            self._take_back(len(dead))
            self.tally.ready += len(dead)
        return len(dead)

    def purge(self, ids: Sequence[str] | None, failure_type: str | None) -> int:
        """See `WorkQueue.purge`."""
        dead = self._dead(ids, failure_type)
        if dead:
            self.begin()
            records = [(new, qid, old) for new, (old, _, qid) in enumerate(dead, self.tally.last_number + 1)]
            write_rows(self.db, _PUT_PURGED, records, time.time())
            self.db.execute(_PURGE, (orjson.dumps([seq for _, seq, _ in dead]).decode(),))
            self._take_back(len(dead))
            self.namer.forget()
        return len(dead)

    def _dead(self, ids: Sequence[str] | None, failure_type: str | None) -> list[tuple[int, int, str]]:
        """Number, seq and id of dead letters, the oldest first."""
        if ids is None:
            return sorted(read_json(self.db, _DEAD, failure_type))
        keys = list(dict.fromkeys(ids))
        return sorted(read_by_keys(self.db, f"{_DEAD} AND qid IN {{keys}}", keys, failure_type))

    def _take_back(self, count: int) -> None:
        """Count dead letters that are no more, each with a new record."""
        self.tally.dead -= count
        self.tally.revision += count
        self.tally.last_number += count

    def _holds(self, lease: Lease) -> bool:
        held = self.leases.get(lease.payload)
        return held is not None and held[0] == lease.fence

    def _drop(self, lease: Lease, failure: Failure | None, *, refused: bool = False) -> tuple[int, bool]:
        """End a lease. Return the seq, and whether the question was sent under the lease: a failure proves it."""
        if not self._holds(lease):
            raise lease.lost_error()
        self.begin()
        seq: int = lease.payload
        sent = failure is not None or seq in self.in_flight
        if refused:
            self.tally.re_executions -= seq in self.in_flight and seq in self.sent_before
            sent = False
        self.end_lease(seq)
        return seq, sent

    def _remember(self, lease: Lease, outcome: str, end: Result | Failure | None) -> None:
        attempt = AttemptRecord.of(lease, outcome, end)
        failure = None if attempt.failure is None else encode_end(attempt.failure)
        self.db.execute(_PUT_ATTEMPT, (lease.payload, *_of_attempt(attempt), failure))
