"""What is read of the record: by the queue that owns the database, or by a visitor that changes nothing."""

from __future__ import annotations

import sqlite3

import orjson

from streaming_queue.messages import Outcome, Question
from streaming_queue.queue.base import Attempt
from streaming_queue.queue.codec import decode_failure, decode_result
from streaming_queue.queue.sqlite_rows import PAGE, read_json

_OUTCOMES = """
SELECT '[' || group_concat(line) || ']' FROM (
    SELECT '[' || q.number || ',' || json_quote(q.qid) || ',' || json_quote(b.text) || ',' || json_quote(b.reference)
        || ',' || q.attempts || ',' || json_quote(q.settled_at) || ',' || coalesce(r.body, 'null')
        || ',' || coalesce(q.failure, 'null') || ']' AS line
    FROM question q CROSS JOIN body b ON b.seq = q.seq LEFT JOIN result r ON r.seq = q.seq
    WHERE {which} AND q.number > ?1 ORDER BY q.number LIMIT ?2)
"""
_ENDED = _OUTCOMES.replace("{which}", "q.number IS NOT NULL")
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


def read_ended(connection: sqlite3.Connection, after: int, limit: int) -> list[Outcome]:
    """See `WorkQueue.results`."""
    return _read_page(connection, _ENDED, after, limit)


def read_dead(connection: sqlite3.Connection, after: int, limit: int, failure_type: str | None) -> list[Outcome]:
    """See `WorkQueue.dead`."""
    return _read_page(connection, _DEAD, after, limit, failure_type)


def read_dead_letter(connection: sqlite3.Connection, question_id: str) -> Outcome | None:
    """See `WorkQueue.dead_letter`."""
    return next(iter(_read_page(connection, _DEAD_LETTER, 0, 1, question_id)), None)


def read_reasons(connection: sqlite3.Connection) -> dict[str, int]:
    """See `WorkQueue.reasons`."""
    return dict(read_json(connection, _REASONS))


def read_history(connection: sqlite3.Connection, question_id: str) -> list[Attempt]:
    """See `WorkQueue.attempts`."""
    return [
        Attempt(
            question_id,
            attempt,
            fence,
            worker,
            protocol,
            started,
            ended,
            outcome,
            decode_failure(orjson.loads(failure)) if failure is not None else None,
        )
        for attempt, fence, worker, protocol, started, ended, outcome, failure, _, _ in connection.execute(
            _HISTORY, (question_id,)
        )
    ]


def _read_page(
    connection: sqlite3.Connection, sql: str, after: int, limit: int, *parameters: str | None
) -> list[Outcome]:
    """Up to `limit` outcomes with a number above `after`."""
    outcomes: list[Outcome] = []
    size = PAGE
    while (wanted := min(size, limit - len(outcomes))) > 0:
        try:
            lines = read_json(connection, sql, after, wanted, *parameters)
        except sqlite3.DataError:  # the texts of one page together are more than SQLite holds in one
            if wanted == 1:
                raise
            size = max(1, wanted // 8)
            continue
        for number, qid, text, reference, attempts, settled_at, result, failure in lines:
            outcomes.append(
                Outcome(
                    number,
                    Question(text, qid, reference),
                    attempts,
                    settled_at,
                    decode_result(result) if result is not None else None,
                    decode_failure(failure) if failure is not None else None,
                )
            )
        if len(lines) < wanted:
            break
        after = outcomes[-1].number
    return outcomes
