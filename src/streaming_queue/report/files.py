"""Files that are replaced whole: a reader sees the old one or the new one, after a power cut too. All calls block."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MODE = 0o666
"""As every program asks for; the umask takes from it."""


def temporary_name(path: Path) -> Path:
    """Where the successor of `path` grows: beside it, hidden, the same name each time so that none pile up."""
    return path.with_name(f".{path.name}.tmp")


def open_temporary(path: Path) -> int:
    """A new, empty `temporary_name(path)`, open for appending; what a killed process left there is dropped."""
    temporary = temporary_name(path)
    temporary.unlink(missing_ok=True)
    return os.open(temporary, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, MODE)


def install(path: Path, descriptor: int) -> None:
    """Make the temporary file of `path`, open as `descriptor`, durable and put it in place."""
    os.fsync(descriptor)
    temporary_name(path).replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends; an exception leaves `path` as it was."""
    descriptor = open_temporary(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            install(path, descriptor)
    except BaseException:
        temporary_name(path).unlink(missing_ok=True)
        raise
