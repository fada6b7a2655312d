"""Inspection of a queue's database. It changes no file and adds none."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streaming_queue.errors import QueueError
from streaming_queue.links import refuse_links
from streaming_queue.messages import Counts
from streaming_queue.queue.codec import decode_bookmark
from streaming_queue.queue.lock import owner_of
from streaming_queue.queue.sqlite_schema import (
    damaged,
    files_of,
    log_of,
    quick_check,
    refuse_truncated,
    storage_error,
    unclean_stop,
    version_of,
)
from streaming_queue.queue.sqlite_state import Tally, read_tally
from streaming_queue.queue.sqlite_tables import VERSION_1_VIEWS

MOST_COPIED_BYTES = 256 * 1024 * 1024
"""A larger database with a log beside it is not read."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The content of a database. `owner` has it open now (`process 123`); `unclean`: its last owner did not close it.

    `counts` is None if the file is too large to be read together with its log. `whole`: every page was checked.
    `bookmark` is the newest one of the intake.
    """

    owner: str | None = None
    unclean: bool = False
    counts: Counts | None = None
    whole: bool = False
    bookmark: dict[str, Any] | None = None


def inspect(path: Path) -> Inspection:
    """Read the database at `path`. Check its pages if no process has it open. Blocks, for a second or two.

    SQLite would make a shared memory file beside a database that it only reads, and would recover its log. So a closed
    database is opened as immutable. If a killed process left a log, a copy of both is read. While an
    owner works, these files exist already, so a short reader may open the database too.

    Raises:
        QueueError: the database is damaged, foreign, of another version, or unreadable; the text says which.
        FileNotFoundError: there is no database.
    """
    owner = None
    try:
        refuse_links(files_of(path), QueueError)
        path = path.resolve(strict=True)
        owner = owner_of(path)
        return _inspect(path, owner)
    except sqlite3.Error as error:
        failure = storage_error(path, error)
    except QueueError as error:
        failure = error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise QueueError(f"{path}: cannot be read: {error.strerror} ({error.filename})") from error
    except (TypeError, ValueError) as error:  # the row of figures is missing, or its JSON is damaged
        failure = damaged(path, str(error))
    if (
        owner is None and owner_of(path) is not None
    ):  # a process opened it meanwhile, so the read may be half of a change
        return inspect(path)
    raise failure


def _inspect(path: Path, owner: str | None) -> Inspection:
    unclean = owner is None and unclean_stop(path)
    if unclean and is_large_with_log(path):
        return Inspection(unclean=True)
    with open_reader(path, owner) as database:
        tally = Tally() if database is None else read_tally(database)
        whole = owner is None and (database is None or quick_check(path, database))
    return Inspection(owner, unclean, tally.counts, whole, decode_bookmark(tally.bookmark))


def is_large_with_log(path: Path) -> bool:
    """Whether a killed process left a log, and the database is too large to be copied with it."""
    return unclean_stop(path) and path.stat().st_size + log_of(path).stat().st_size > MOST_COPIED_BYTES


def open_reader(path: Path, owner: str | None) -> AbstractContextManager[sqlite3.Connection | None]:
    """A database for reads in one thread, beside its `owner`, if there is one. As `reading`."""
    return reading(path) if owner is None else _reader(path, "mode=ro", path)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A database without an owner, for reads in one thread at a time; None if it has no tables yet. Blocks.

    Raises like `inspect`, and sqlite3.Error.
    """
    refuse_truncated(path)
    if not unclean_stop(path):
        with _reader(path, "mode=ro&immutable=1", path) as database:
            yield database
        return
    with tempfile.TemporaryDirectory(prefix="stq-") as folder:
        copy = Path(folder) / "queue.db"
        try:
            shutil.copyfile(path, copy)
            shutil.copyfile(log_of(path), log_of(copy))
        except OSError as error:
            raise QueueError(f"{path}: cannot be copied for reading: {error.strerror}") from error
        with _reader(copy, "mode=rw", path) as database:
            yield database


@contextmanager
def _reader(path: Path, options: str, named: Path) -> Iterator[sqlite3.Connection | None]:
    where = f"{path.as_uri()}?{options}"
    reader = sqlite3.connect(where, uri=True, isolation_level=None, timeout=1.0, check_same_thread=False)
    with closing(reader):
        version = version_of(named, reader)
        views = VERSION_1_VIEWS if version == 1 else ""
        reader.executescript(f"{views} PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0;")
        yield reader if version else None
