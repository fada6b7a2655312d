"""Copy the rows of a run into a table that survives a kill of this program and of the run, at any moment.

    python examples/consume_rows.py RUN TABLE.db

The cursor is stored in the same transaction as the rows before it. So a new start goes on where the last one stopped,
and a row that comes twice changes nothing. The program ends with the code of `stq results --follow`.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

TABLE = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS answer(question_id TEXT PRIMARY KEY, status TEXT, answer TEXT);
CREATE TABLE IF NOT EXISTS position(only INTEGER PRIMARY KEY CHECK(only = 1), cursor TEXT);
INSERT OR IGNORE INTO position VALUES (1, '');
"""


def consume(run: str, table: str) -> int:
    """Store the rows after the stored cursor until the run has ended; return the exit code of `stq results`."""
    with closing(sqlite3.connect(table)) as database:
        database.executescript(TABLE)
        (cursor,) = database.execute("SELECT cursor FROM position").fetchone()
        command = [sys.executable, "-m", "streaming_queue.cli", "results", run, "--after", cursor, "--follow"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as rows:
            for line in rows.stdout or ():
                if not line.endswith("\n"):
                    break  # `stq results` was killed within a row
                store(database, json.loads(line))
    return rows.returncode


def store(database: sqlite3.Connection, row: dict[str, object]) -> None:
    """Store one row and its cursor in one transaction."""
    with database:
        if row["status"] == "purged":
            database.execute("DELETE FROM answer WHERE question_id = ?", [row["question_id"]])
        else:  # success, failed, or open: a dead letter that is asked again
            values = [row["question_id"], row["status"], row["answer"]]
            database.execute("INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", values)
        database.execute("UPDATE position SET cursor = ?", [row["cursor"]])


if __name__ == "__main__":
    sys.exit(consume(*sys.argv[1:]))
