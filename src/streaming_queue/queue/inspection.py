"""A look at a queue's database that changes nothing: not the file, not its log, not the folder around them."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from streaming_queue.errors import QueueError
from streaming_queue.links import refuse_links
from streaming_queue.messages import Counts, Outcome
from streaming_queue.queue.lock import owner_of
from streaming_queue.queue.sqlite_reading import read_ended
from streaming_queue.queue.sqlite_schema import (
    damaged,
    files_of,
    quick_check,
    refuse_foreign,
    refuse_truncated,
    storage_error,
    unclean_stop,
)
from streaming_queue.queue.sqlite_state import read_tally

MOST_COPIED_BYTES = 256 * 1024 * 1024
"""A larger database with a log beside it is not looked into."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a database. `owner` has it open now (`process 123`); `unclean`: its last owner did not close it.

    `counts` is None where the file is too large to be read beside its log. `whole`: every page was checked.
    `bookmark` is the newest of the intake.
    """

    owner: str | None = None
    unclean: bool = False
    counts: Counts | None = None
    whole: bool = False
    bookmark: dict[str, Any] | None = None


def inspect(path: Path) -> Inspection:
    """Look into the database at `path`, and check its pages where nobody has it open. Blocks, for a second or two.

    SQLite would make a shared memory file beside a database of which it only reads, and recover its log. So a closed
    one is opened as immutable; one with a log, left by a process that was killed, is looked at in a copy; and where
    an owner is at work its files are there already: there a short reader may join it.

    Raises:
        QueueError: it is damaged, foreign, of another version, or cannot be read; the text says which.
        FileNotFoundError: there is none.
    """
    owner = None
    try:
        refuse_links(files_of(path), QueueError)
        path = path.resolve(strict=True)
        owner = owner_of(path)
        return _look(path, owner)
    except sqlite3.Error as error:
        failure = storage_error(path, error)
    except QueueError as error:
        failure = error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise QueueError(f"{path}: cannot be looked into: {error.strerror} ({error.filename})") from error
    except (TypeError, ValueError) as error:  # its one row of figures is gone, or its JSON is none
        failure = damaged(path, str(error))
    if owner is None and owner_of(path) is not None:  # it was opened meanwhile: what was read was half of a change
        return inspect(path)
    raise failure


def _look(path: Path, owner: str | None) -> Inspection:
    if owner is not None:
        with _reader(path, "mode=ro") as database:
            refuse_foreign(path, database)
            return Inspection(owner, counts=_counts(database), bookmark=_bookmark(database))
    if is_large_with_log(path):
        return Inspection(unclean=True)
    unclean = unclean_stop(path)
    with reading(path) as database:
        return Inspection(None, unclean, _counts(database), quick_check(path, database), _bookmark(database))


def is_large_with_log(path: Path) -> bool:
    """Whether a process was killed over a database too large to be copied and read beside its log."""
    log = path.with_name(path.name + "-wal")
    return unclean_stop(path) and path.stat().st_size + log.stat().st_size > MOST_COPIED_BYTES


def outcomes(path: Path, page: int = 200) -> Iterator[Outcome]:
    """The recorded ends of the database at `path`, in their order; a run that goes on may add more meanwhile. Blocks.

    Memory is bounded by a page. Raises like `inspect`.
    """
    refuse_links(files_of(path), QueueError)
    path = path.resolve(strict=True)
    try:
        with _reader(path, "mode=ro") if owner_of(path) is not None else reading(path) as database:
            refuse_foreign(path, database)
            after = 0
            while not is_empty(database) and (found := read_ended(database, after, page)):
                yield from found
                after = found[-1].number
    except sqlite3.Error as error:
        raise storage_error(path, error) from error


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The database that nobody owns, to read from, in one thread at a time; nothing of it is changed. Blocks.

    Raises like `inspect`, and sqlite3.Error.
    """
    refuse_truncated(path)
    if not unclean_stop(path):
        with _reader(path, "mode=ro&immutable=1") as database:
            refuse_foreign(path, database)
            yield database
        return
    with tempfile.TemporaryDirectory(prefix="stq-") as folder:
        copy = Path(folder) / "queue.db"
        try:
            shutil.copyfile(path, copy)
            shutil.copyfile(path.with_name(path.name + "-wal"), copy.with_name(copy.name + "-wal"))
        except OSError as error:
            raise QueueError(f"{path}: cannot be copied to be looked at: {error.strerror}") from error
        with _reader(copy, "mode=rw") as database:
            refuse_foreign(path, database)
            yield database


@contextmanager
def _reader(path: Path, options: str) -> Iterator[sqlite3.Connection]:
    where = f"{path.as_uri()}?{options}"
    reader = sqlite3.connect(where, uri=True, isolation_level=None, timeout=1.0, check_same_thread=False)
    with closing(reader):
        reader.executescript("PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0;")
        yield reader


def _counts(database: sqlite3.Connection) -> Counts:
    return Counts() if is_empty(database) else read_tally(database).counts


def _bookmark(database: sqlite3.Connection) -> dict[str, Any] | None:
    mark = None if is_empty(database) else database.execute("SELECT bookmark FROM meta").fetchone()[0]
    return None if mark is None else orjson.loads(mark)


def is_empty(database: sqlite3.Connection) -> bool:
    """Whether its owner was stopped before it made the tables."""
    return bool(database.execute("PRAGMA user_version").fetchone()[0] == 0)
