"""Many rows in one statement.

Each statement of Python's sqlite3, and each row fetched, gives up the interpreter's lock and must win it back. Beside a
busy event loop that takes milliseconds a row: a thousand rows fetched one by one took seconds. So a statement here
takes all its rows as parameters, or returns them all as one JSON text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, repeat
from typing import Any

import orjson

from streaming_queue.messages import Outcome, Question
from streaming_queue.queue.codec import decode_failure, decode_result

ROWS = 256
PAGE = 64
"""Rows read in one statement: their texts are in memory twice meanwhile."""

Row = Sequence[Any]

CLAIMABLE = """
SELECT '[' || group_concat(line) || ']' FROM (
    SELECT '[' || q.seq || ',' || json_quote(q.qid) || ',' || json_quote(b.text) || ',' || json_quote(b.reference)
        || ',' || q.attempts || ',' || q.fence || ',' || q.sent || ',' || q.not_before || ',' || q.losses || ']' AS line
    FROM question q CROSS JOIN body b ON b.seq = q.seq
    WHERE q.state = 'ready' ORDER BY q.priority DESC, q.seq LIMIT ?)
"""
OUTCOMES = """
SELECT '[' || group_concat(line) || ']' FROM (
    SELECT '[' || q.number || ',' || json_quote(q.qid) || ',' || json_quote(b.text) || ',' || json_quote(b.reference)
        || ',' || q.attempts || ',' || json_quote(q.settled_at) || ',' || coalesce(r.body, 'null')
        || ',' || coalesce(q.failure, 'null') || ']' AS line
    FROM question q CROSS JOIN body b ON b.seq = q.seq LEFT JOIN result r ON r.seq = q.seq
    WHERE {which} AND q.number > ? ORDER BY q.number LIMIT ?)
"""
ENDED = OUTCOMES.replace("{which}", "q.number IS NOT NULL")
DEAD = OUTCOMES.replace("{which}", "q.state = 'dead'")


def write_rows(connection: sqlite3.Connection, sql: str, rows: Sequence[Row], *scalars: Any) -> None:
    """Run `sql` once for up to 256 `rows`: `{rows}` in it becomes their VALUES, all of one width, after `scalars`.

    Rows of NULLs fill them up to a power of two, so that few statements are ever prepared: `sql` must skip those.
    """
    for start in range(0, len(rows), ROWS):
        chunk = rows[start : start + ROWS]
        width, count = len(chunk[0]), _power(len(chunk))
        padding = repeat(None, (count - len(chunk)) * width)
        connection.execute(_with_rows(sql, width, count), [*scalars, *chain.from_iterable(chunk), *padding])


def read_by_keys(connection: sqlite3.Connection, sql: str, keys: Sequence[str], *scalars: Any) -> Iterator[Any]:
    """The rows (JSON arrays of `group_concat`) that `sql` finds for `keys`: `{keys}` in it becomes their list."""
    for start in range(0, len(keys), ROWS):
        chunk = keys[start : start + ROWS]
        count = _power(len(chunk))
        padding = repeat(None, count - len(chunk))
        yield from read_json(connection, _with_keys(sql, count), *scalars, *chunk, *padding)


def read_json(connection: sqlite3.Connection, sql: str, *parameters: Any) -> list[Any]:
    """The one JSON array that `sql` returns; empty for NULL."""
    text = connection.execute(sql, parameters).fetchone()[0]
    return [] if text is None else list(orjson.loads(text))


def read_page(connection: sqlite3.Connection, sql: str, after: int, limit: int) -> list[Outcome]:
    """Up to `limit` outcomes with a number above `after`; `sql` is ENDED or DEAD."""
    outcomes: list[Outcome] = []
    size = PAGE
    while (wanted := min(size, limit - len(outcomes))) > 0:
        try:
            lines = read_json(connection, sql, after, wanted)
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


def _power(count: int) -> int:
    return 1 << (count - 1).bit_length()


@cache
def _with_rows(sql: str, width: int, count: int) -> str:
    row = f"({','.join('?' * width)})"
    return sql.replace("{rows}", f"(VALUES {','.join([row] * count)})")


@cache
def _with_keys(sql: str, count: int) -> str:
    return sql.replace("{keys}", f"({','.join('?' * count)})")
