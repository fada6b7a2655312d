"""The database: its tables, how it is opened and checked, and the meaning of SQLite's errors."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

from streaming_queue.errors import DiskFullError, QueueError
from streaming_queue.links import refuse_links

SCHEMA_VERSION = 2
APPLICATION_ID = 0x53545131
QUICK_CHECK_S = 1.0
"""Longest check after an unclean stop. A larger database is checked in part."""

PRAGMAS = """
PRAGMA synchronous=FULL;
PRAGMA busy_timeout=5000;
PRAGMA foreign_keys=ON;
PRAGMA wal_autocheckpoint=1000;
PRAGMA journal_size_limit=67108864;
PRAGMA cache_size=-16384;
PRAGMA temp_store=MEMORY;
"""

SCHEMA = """
CREATE TABLE question(
    seq INTEGER PRIMARY KEY,        -- never given twice, not even after a purge
    qid TEXT NOT NULL UNIQUE,
    priority INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'ready' CHECK(state IN ('ready', 'delayed', 'leased', 'done', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,  -- it was sent under an earlier lease
    fence INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL,       -- since when, or from when on, it may be leased; epoch seconds
    delay_s REAL,                   -- what was asked for while delayed: the wall clock may jump
    leased_at REAL,                 -- for people; a lease's clock is the process's own
    number INTEGER,                 -- of its newest record: its end, or the replay of its dead letter
    settled_at REAL,                -- time of that record
    failure TEXT,                   -- JSON, of a dead letter
    supersedes INTEGER              -- the number of the record before
){strict};
CREATE INDEX question_ready ON question(priority DESC, seq) WHERE state = 'ready';
CREATE INDEX question_delayed ON question(seq) WHERE state = 'delayed';
CREATE INDEX question_leased ON question(seq) WHERE state = 'leased';
CREATE UNIQUE INDEX question_number ON question(number) WHERE number IS NOT NULL;
CREATE UNIQUE INDEX question_dead ON question(number) WHERE state = 'dead';

CREATE TABLE body(                  -- apart, so that a change of state does not write the text again
    seq INTEGER PRIMARY KEY REFERENCES question(seq) ON DELETE CASCADE,
    text TEXT NOT NULL,
    reference TEXT
){strict};

CREATE TABLE result(
    seq INTEGER PRIMARY KEY REFERENCES question(seq),  -- one answer a question, by key
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    committed_at REAL NOT NULL,
    body TEXT NOT NULL,             -- JSON
    answer TEXT GENERATED ALWAYS AS (json_extract(body, '$.answer')) VIRTUAL,
    worker TEXT GENERATED ALWAYS AS (json_extract(body, '$.worker')) VIRTUAL
){strict};

CREATE TABLE attempt(               -- append-only; `result` holds the attempt that won
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL REFERENCES question(seq) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    worker TEXT,
    protocol TEXT,
    started REAL,
    ended REAL NOT NULL,
    outcome TEXT NOT NULL CHECK(outcome IN ('late', 'retried', 'released', 'lost', 'buried')),
    failure TEXT                    -- JSON
){strict};
CREATE INDEX attempt_seq ON attempt(seq);

CREATE TABLE meta(
    only INTEGER PRIMARY KEY CHECK(only = 1),
    ready INTEGER NOT NULL DEFAULT 0,   -- delayed ones included
    leased INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0,
    last_number INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,
    re_executions INTEGER NOT NULL DEFAULT 0,
    late_duplicates_rejected INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    bookmark TEXT,                  -- JSON
    leases_taken_ahead INTEGER NOT NULL DEFAULT 0,
    in_flight TEXT NOT NULL DEFAULT '[]',  -- JSON: the seqs that were sent under their present lease
    log TEXT NOT NULL DEFAULT ''    -- the name of the log in cursors
){strict};
INSERT INTO meta(only, log) VALUES (1, lower(hex(randomblob(4))));

CREATE TABLE purged(                -- the records of deleted questions
    number INTEGER PRIMARY KEY,
    qid TEXT NOT NULL,
    supersedes INTEGER NOT NULL,
    settled_at REAL NOT NULL
){strict};
"""
# New columns and tables go to the end: so a first page of a new database also fits an old one (`salvage`).

MIGRATION = """
ALTER TABLE question ADD COLUMN supersedes INTEGER;
ALTER TABLE meta ADD COLUMN leases_taken_ahead INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN in_flight TEXT NOT NULL DEFAULT '[]';
ALTER TABLE meta ADD COLUMN log TEXT NOT NULL DEFAULT '';
UPDATE meta SET log = lower(hex(randomblob(4))),
    in_flight = (SELECT json_group_array(seq) FROM question WHERE state = 'leased');
CREATE TABLE purged(
    number INTEGER PRIMARY KEY,
    qid TEXT NOT NULL,
    supersedes INTEGER NOT NULL,
    settled_at REAL NOT NULL
){strict};
"""
"""From version 1. All leases count as sent, because version 1 did not record which were."""

VERSION_1_VIEWS = """
CREATE TEMP TABLE purged(number INTEGER PRIMARY KEY, qid TEXT, supersedes INTEGER, settled_at REAL);
CREATE TEMP VIEW question AS SELECT *, NULL AS supersedes FROM main.question;
CREATE TEMP VIEW meta AS SELECT *, 0 AS leases_taken_ahead, '[]' AS in_flight, '' AS log FROM main.meta;
"""
"""Show a database of version 1 to a reader as one of version 2, whose rows have no cursors."""

_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FORBIDDEN = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_FATAL = frozenset({sqlite3.SQLITE_IOERR, *_UNREADABLE, *_FORBIDDEN})


def connect(path: Path, *, unclean: bool) -> sqlite3.Connection:
    """Open the database at `path`, or make it. `unclean`: check its pages first. Blocks.

    Raises:
        QueueError: the file is damaged, not ours, of another version, or cannot be opened; the text says which.
    """
    refuse_truncated(path)
    refuse_links(files_of(path), QueueError)
    try:
        # SQLite would not give the group the rights that the umask allows. Its other files get the mode of this file.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        pass
    except OSError as error:
        raise QueueError(f"{path}: cannot be made: {error.strerror}; its folder must exist and be writable") from error
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, cached_statements=256)
    except sqlite3.Error as error:
        raise storage_error(path, error) from error
    try:
        version = version_of(path, connection)
        if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise QueueError(f"{path}: its file system does not support SQLite's write-ahead log; use a local disk")
        connection.executescript(PRAGMAS)
        if unclean:
            quick_check(path, connection)
        if version != SCHEMA_VERSION:
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id={APPLICATION_ID};"
                f"{_plain(MIGRATION if version else SCHEMA)} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
    except sqlite3.Error as error:
        connection.close()
        raise storage_error(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _plain(sql: str) -> str:
    """`sql` without comments, because the first page must hold the schema (`salvage`), and for this SQLite."""
    strict = " STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
    return re.sub(r" +--.*", "", sql).replace("{strict}", strict)


def files_of(path: Path) -> list[Path]:
    """The database at `path` and the files that SQLite keeps beside it."""
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))]


def log_of(path: Path) -> Path:
    """The write-ahead log of the database at `path`."""
    return path.with_name(path.name + "-wal")


def close_without_checkpoint(path: Path, connection: sqlite3.Connection) -> None:
    """Close without another write. The last connection to close would checkpoint, and sync a log whose sync failed.

    So a reader, which cannot checkpoint, is the last connection.
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT 1 FROM meta").fetchone()
        connection.close()
    connection.close()


def unclean_stop(path: Path) -> bool:
    """Whether a log with frames lies beside the database: its last owner did not close it."""
    try:
        return log_of(path).stat().st_size > 0
    except FileNotFoundError:
        return False


def is_fatal(error: sqlite3.Error) -> bool:
    """Whether the file is in doubt, as after a failed fsync: a second fsync would report a false success."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _FATAL


def storage_error(path: Path, error: sqlite3.Error) -> QueueError:
    """Our error for SQLite's, by its result code."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(f"{path}: no space left for the queue's database; free some, nothing stored is lost")
    if code in _UNREADABLE:
        return damaged(path, str(error))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return QueueError(
            f"{path}: another program holds the database locked ({name}); end its transaction", retryable=True
        )
    if code in _FORBIDDEN:
        return QueueError(f"{path}: {error} ({name}); the file and its folder must be writable by this user")
    if code == sqlite3.SQLITE_IOERR:
        return QueueError(
            f"{path}: the disk failed ({name}); check it, then start again: acknowledged changes are kept"
        )
    return QueueError(f"{path}: {error} ({name})")


def damaged(path: Path, what: str) -> QueueError:
    """The error for a file that is not a whole database."""
    return QueueError(
        f"{path} is damaged or no queue database ({what}): restore it from a copy, or move it and its -wal file away "
        "to start anew; of a run, `stq doctor RUN --repair` exports the readable part"
    )


def refuse_truncated(path: Path) -> None:
    """Raise QueueError if the file at `path` cannot be opened, has no header, or lacks pages. No file is fine."""
    try:
        # Open it for writing too: SQLite would open a read-only file and fail at the first change.
        with path.open("r+b") as file:
            header = file.read(100)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise QueueError(
            f"{path}: cannot open it: {error.strerror}; it must be a file that is writable by this user"
        ) from error
    if not header:
        return
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise damaged(path, "it has no SQLite header")
    # If there is a log, the missing pages may be in it. The check after an unclean stop reads both.
    if not unclean_stop(path) and size < (whole := stated_size(header)):
        raise damaged(path, f"truncated: {size} of {whole} bytes")


def page_size(header: bytes) -> int:
    """Bytes of a page, by the first 100 bytes of a database (https://sqlite.org/fileformat.html)."""
    size = int.from_bytes(header[16:18])
    return 65536 if size == 1 else size


def stated_size(header: bytes) -> int:
    """Bytes of the whole database, by its first 100 bytes."""
    return int.from_bytes(header[28:32]) * page_size(header)


def version_of(path: Path, connection: sqlite3.Connection) -> int:
    """The version of our tables; 0 for an empty database.

    Raises:
        QueueError: it is the database of another program, or of a newer version of ours.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application == APPLICATION_ID and not 1 <= version <= SCHEMA_VERSION:
        raise QueueError(
            f"{path} was written by another release (schema {version}, this one reads up to {SCHEMA_VERSION}): finish "
            "it with that release, or give this one a database of its own"
        )
    if application != APPLICATION_ID and (tables or version or application):
        raise QueueError(f"{path} is the database of another program; name another file for the queue")
    return int(version)


def quick_check(path: Path, connection: sqlite3.Connection) -> bool:
    """Check pages for up to `QUICK_CHECK_S`. Return whether all were checked. Raises QueueError on damage."""
    timer = threading.Timer(QUICK_CHECK_S, connection.interrupt)
    timer.start()
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return False
    finally:
        timer.cancel()
        timer.join()
    if found != "ok":
        raise damaged(path, str(found).replace("\n", " "))
    return True
