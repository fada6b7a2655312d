"""The read operations of a queue in SQLite: for the owner process, and for a reader of a stopped run."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from streaming_queue.messages import Counts, Failure, Outcome, Question, Result, SourceChecks
from streaming_queue.queue.base import AttemptRecord, Record
from streaming_queue.queue.codec import decode_bookmark
from streaming_queue.queue.sqlite_rows import PAGE, read_json
from streaming_queue.queue.sqlite_state import Tally

T = TypeVar("T")

PAGE_CHARACTERS = 4 * 1024 * 1024
"""The questions and answers of a page end at so many characters together, and with a whole row."""

_OUTCOMES = """
SELECT '[' || group_concat(line) || ']' FROM (
    SELECT q.number AS number,
        '[' || q.number || ',' || json_quote(q.qid) || ',' || json_quote(b.text) || ',' || json_quote(b.reference)
        || ',' || q.attempts || ',' || json_quote(q.settled_at) || ',' || coalesce(r.body, 'null')
        || ',' || coalesce(q.failure, 'null') || ',' || coalesce(q.supersedes, 'null') || ']' AS line
    FROM question q CROSS JOIN body b ON b.seq = q.seq LEFT JOIN result r ON r.seq = q.seq
    WHERE {which} AND q.number > ?1 {or_purged} ORDER BY number LIMIT ?2)
"""
_SIZES = """
SELECT json_group_array(size) FROM (
    SELECT length(b.text) + coalesce(length(r.body), 0) AS size
    FROM question q CROSS JOIN body b ON b.seq = q.seq LEFT JOIN result r ON r.seq = q.seq
    WHERE q.number > ?1 ORDER BY q.number LIMIT ?2)
"""
_PURGED = """
    UNION ALL
    SELECT p.number, '[' || p.number || ',' || json_quote(p.qid) || ',null,null,0,' || json_quote(p.settled_at)
        || ',null,null,' || p.supersedes || ']'
    FROM purged p WHERE p.number > ?1
"""
_RECORDS = _OUTCOMES.replace("{which}", "q.number IS NOT NULL").replace("{or_purged}", _PURGED)
_OUTCOMES = _OUTCOMES.replace("{or_purged}", "")
_DEAD = _OUTCOMES.replace("{which}", "q.state = 'dead' AND (?3 IS NULL OR json_extract(q.failure, '$.type') = ?3)")
_DEAD_LETTER = _OUTCOMES.replace("{which}", "q.state = 'dead' AND q.qid = ?3")
_REASONS = """
SELECT json_group_array(json_array(type, questions)) FROM (
    SELECT json_extract(failure, '$.type') AS type, count(*) AS questions FROM question WHERE state = 'dead'
    GROUP BY 1 ORDER BY 2 DESC, 1)
"""
_HISTORY = """
SELECT a.attempt, a.fence, a.worker, a.protocol, a.started, a.ended, a.outcome, a.failure,
    a.outcome = 'late' AS place, a.id AS age
FROM question q JOIN attempt a ON a.seq = q.seq WHERE q.qid = ?1
UNION ALL
SELECT r.attempt, r.fence, r.worker, json_extract(r.body, '$.protocol'),
    r.committed_at - json_extract(r.body, '$.response_time_s'), r.committed_at, 'answered', NULL, 0.5, 0
FROM question q JOIN result r ON r.seq = q.seq WHERE q.qid = ?1
ORDER BY place, age
"""


class SQLiteRecord(Record):
    """A record in SQLite; the subclass says how statements and figures are read."""

    @abstractmethod
    async def _read(self, read: Callable[[sqlite3.Connection], T], empty: T) -> T:
        """Run `read` on the database. Return `empty` if there is no database."""

    @abstractmethod
    async def _tally(self) -> Tally:
        """The newest figures."""

    async def bookmark(self) -> dict[str, Any] | None:
        """See Record."""
        return decode_bookmark((await self._tally()).bookmark)

    async def counts(self) -> Counts:
        """See Record."""
        return (await self._tally()).counts

    async def dead(self, limit: int = 1000, *, after: int = 0, failure_type: str | None = None) -> list[Outcome]:
        """See Record."""
        return await self._read(lambda database: _read_page(database, _DEAD, after, limit, failure_type), [])

    async def dead_letter(self, question_id: str) -> Outcome | None:
        """See Record."""
        return await self._read(
            lambda database: next(iter(_read_page(database, _DEAD_LETTER, 0, 1, question_id)), None), None
        )

    async def reasons(self) -> dict[str, int]:
        """See Record."""
        return dict(await self._read(lambda database: read_json(database, _REASONS), []))

    async def attempts(self, question_id: str) -> list[AttemptRecord]:
        """See Record."""
        return await self._read(lambda database: _read_history(database, question_id), [])

    async def stats(self) -> dict[str, int]:
        """See Record."""
        return (await self._tally()).stats


def read_records(connection: sqlite3.Connection, after: int, limit: int) -> list[Outcome]:
    """See `WorkQueue.results`."""
    return _read_page(connection, _RECORDS, after, limit)


def read_log_name(connection: sqlite3.Connection) -> str:
    """The name of the log in cursors; empty for a database of version 1, which has none."""
    return str(connection.execute("SELECT log FROM meta").fetchone()[0])


def read_source_checks(connection: sqlite3.Connection) -> bytes:
    """See `WorkQueue.source_checks`."""
    stored = bytearray()
    for lines, checks in connection.execute("SELECT lines, checks FROM source_check ORDER BY lines"):
        SourceChecks(lines, checks).put_into(stored)
    return bytes(stored)


def _read_history(connection: sqlite3.Connection, question_id: str) -> list[AttemptRecord]:
    history = []
    for *fields, failure, _, _ in connection.execute(_HISTORY, (question_id,)):
        fields.append(None if failure is None else Failure(**orjson.loads(failure)))
        history.append(AttemptRecord(question_id, *fields))
    return history


def _read_page(
    connection: sqlite3.Connection, sql: str, after: int, limit: int, *parameters: str | None
) -> list[Outcome]:
    """Up to `limit` records with a number above `after`; fewer if they are large, see `WorkQueue.results`."""
    outcomes: list[Outcome] = []
    size, room = PAGE, PAGE_CHARACTERS
    log = read_log_name(connection)
    while (wanted := min(size, limit - len(outcomes))) > 0 and room > 0:
        if sql is _RECORDS:
            wanted, room = _fitting(connection, after, wanted, room)
        try:
            lines = read_json(connection, sql, after, wanted, *parameters)
        except sqlite3.DataError:  # the texts of one page together exceed the longest value of SQLite
            if wanted == 1:
                raise
            size = max(1, wanted // 8)
            continue
        for number, qid, text, reference, attempts, settled_at, answer, reason, before in lines:
            result = None if answer is None else Result(**answer)
            failure = None if reason is None else Failure(**reason)
            purged = text is None
            question = Question("" if purged else text, qid, reference)
            outcomes.append(Outcome(number, question, attempts, settled_at, result, failure, before, purged, log))
        if len(lines) < wanted:
            break
        after = outcomes[-1].number
    return outcomes


def _fitting(connection: sqlite3.Connection, after: int, wanted: int, room: int) -> tuple[int, int]:
    """How many of the `wanted` next records fit into `room`, at least one, and the room left."""
    for count, size in enumerate(read_json(connection, _SIZES, after, wanted), 1):
        room -= size
        if room <= 0:
            return count, room
    return wanted, room
