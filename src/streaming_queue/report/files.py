"""Files that are replaced whole: a reader sees the old or the new one, even after a power cut. All calls block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MODE = 0o666
"""The usual mode of new files; the umask reduces it."""


def temporary_name(path: Path) -> Path:
    """The hidden file beside `path` that becomes its successor; always the same name, so that there is at most one."""
    return path.with_name(f".{path.name}.tmp")


def open_temporary(path: Path) -> int:
    """A new, empty `temporary_name(path)`, open for appending; it replaces one that a killed process left."""
    temporary = temporary_name(path)
    temporary.unlink(missing_ok=True)
    return os.open(temporary, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, MODE)


def install(path: Path, descriptor: int) -> None:
    """Make the temporary file of `path`, open as `descriptor`, durable and rename it to `path`."""
    os.fsync(descriptor)
    temporary_name(path).replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` at the end of the block; after an exception `path` is unchanged."""
    descriptor = open_temporary(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            install(path, descriptor)
    except BaseException:
        temporary_name(path).unlink(missing_ok=True)
        raise
