"""Many rows in one statement.

Python's sqlite3 releases the interpreter's lock for each statement and each fetched row, and must then get it back.
With a busy event loop that takes milliseconds per row: a thousand single rows took seconds. So a statement here takes
all its rows as parameters, or returns them all as one JSON text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, repeat
from typing import Any

import orjson

ROWS = 256
PAGE = 64
"""Rows read in one statement; their texts are in memory twice meanwhile."""

CLAIMABLE = """
SELECT '[' || group_concat(line) || ']' FROM (
    SELECT '[' || q.seq || ',' || json_quote(q.qid) || ',' || json_quote(b.text) || ',' || json_quote(b.reference)
        || ',' || q.attempts || ',' || q.fence || ',' || q.sent || ',' || q.not_before || ',' || q.losses || ']' AS line
    FROM question q CROSS JOIN body b ON b.seq = q.seq
    WHERE q.state = 'ready' ORDER BY q.priority DESC, q.seq LIMIT ?)
"""


def write_rows(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]], *scalars: Any) -> None:
    """Run `sql` once for up to 256 `rows`: `{rows}` in it becomes their VALUES, all of one width, after `scalars`.

    Rows of NULLs fill them up to a power of two, so that SQLite prepares few statements. `sql` must skip these rows.
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


def _power(count: int) -> int:
    return 1 << (count - 1).bit_length()


@cache
def _with_rows(sql: str, width: int, count: int) -> str:
    row = f"({','.join('?' * width)})"
    return sql.replace("{rows}", f"(VALUES {','.join([row] * count)})")


@cache
def _with_keys(sql: str, count: int) -> str:
    return sql.replace("{keys}", f"({','.join('?' * count)})")
