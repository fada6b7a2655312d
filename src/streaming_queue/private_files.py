"""Files that only this user may read, in the user's state folder. All calls block."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from streaming_queue.errors import ConfigError

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def state_folder() -> Path:
    """`$XDG_STATE_HOME/streaming-queue`, by default `~/.local/state/streaming-queue` (XDG Base Directory, 0.8).

    Raises ConfigError if this user has no home folder.
    """
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        return (given if given.is_absolute() else Path.home() / ".local" / "state") / "streaming-queue"
    except RuntimeError:
        raise ConfigError("this user has no home folder: set XDG_STATE_HOME to a folder of yours") from None


def read_private(path: Path) -> bytes | None:
    """The content of a private file; None if there is no such file.

    Raises ConfigError if another user owns it or may read or write it, or if it is a link.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; remove it") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(descriptor)
        raise ConfigError(f"{path}: other users may read or change this file; remove it, then a new one is made")
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def write_private(path: Path, content: bytes, *, replace: bool = True) -> bool:
    """Write a private file whole and durably, with its folders. False if `replace` is off and the file exists.

    Raises ConfigError if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _make_folder(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(path)
            else:
                os.link(temporary, path)  # fails if the name is taken, so that two processes agree on one file
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise ConfigError(
            f"{error.filename or path}: cannot be written: {error.strerror}; set XDG_STATE_HOME to a folder "
            "that this user may write"
        ) from error
    return True


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, for this user only."""
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
