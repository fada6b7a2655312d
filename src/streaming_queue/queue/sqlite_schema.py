"""The database: how it is opened and checked, and the meaning of SQLite's errors."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

from streaming_queue.errors import DiskFullError, QueueError, disk_error
from streaming_queue.links import refuse_links
from streaming_queue.queue.sqlite_tables import APPLICATION_ID, MIGRATION, SCHEMA, SCHEMA_VERSION, plain

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
        text = f"{path}: cannot be made: {error.strerror}; its folder must exist and be writable"
        raise disk_error(path, error) or QueueError(text) from error
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
        if version and version != SCHEMA_VERSION:
            _keep_copy(path, connection, version)
        if version != SCHEMA_VERSION:
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id={APPLICATION_ID};"
                f"{plain(MIGRATION if version else SCHEMA)} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
    except sqlite3.Error as error:
        connection.close()
        raise storage_error(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _keep_copy(path: Path, connection: sqlite3.Connection, version: int) -> None:
    """Keep the database of an earlier version beside the new one. Raises sqlite3.Error and QueueError."""
    copy = path.with_name(f"{path.name}.version-{version}")
    begun = path.with_name(f"{copy.name}.tmp")
    refuse_links([copy, begun], QueueError)
    if copy.exists():
        return
    begun.unlink(missing_ok=True)
    try:
        connection.execute("VACUUM INTO ?", (str(begun),))  # it syncs the new file
        begun.replace(copy)
    finally:
        begun.unlink(missing_ok=True)


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


def as_queue_error(path: Path, error: BaseException) -> QueueError:
    """Any error of the database's thread as ours."""
    if isinstance(error, QueueError):
        return error
    if isinstance(error, sqlite3.Error):
        ours = storage_error(path, error)
    else:
        ours = QueueError(f"{path}: {type(error).__name__}: {error}")
    ours.__cause__ = error
    return ours


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
        text = f"{path}: cannot open it: {error.strerror}; it must be a file that is writable by this user"
        raise disk_error(path, error) or QueueError(text) from error
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
