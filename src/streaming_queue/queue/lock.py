"""One owner per database: the lock beside it, and the file systems on which the lock does not work."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from streaming_queue.errors import QueueError, QueueInUseError, disk_error
from streaming_queue.links import NO_LINK, refuse_links

with suppress(ImportError):  # Windows has no fcntl; `check_system` refuses Windows later
    import fcntl

_MOST_BYTES = 4096
_ESCAPED = re.compile(r"\\(\d{3})")

NETWORK_FILE_SYSTEMS = frozenset(
    [
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "glusterfs", "lustre", "gpfs"),
        *("beegfs", "pvfs2", "orangefs", "ocfs2", "gfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs"),
        *("fuse.rclone", "fuse.gcsfuse", "fuse.davfs", "fuse.juicefs", "fuse.mfs"),
    ]
)
"""File systems that several machines may use; flock and SQLite's shared memory do not work across machines."""


def mount_of(path: str, mountinfo: str) -> tuple[str, str] | None:
    """Mount point and file system type of the absolute `path`, by the text of `/proc/self/mountinfo`."""
    found: tuple[str, str] | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        point = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4])
        below = point.rstrip("/") + "/"
        # A later line of the same mount point was mounted over the earlier one.
        if (path == point or path.startswith(below)) and (found is None or len(point) >= len(found[0])):
            found = point, kinds[0]
    return found


def refuse_network_file_system(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Raise QueueError if `path` (resolved) is on a network file system. Other systems than Linux are not checked."""
    try:
        mounts = mountinfo.read_text(errors="surrogateescape")
    except OSError:
        return
    mount = mount_of(str(path), mounts)
    if mount is not None and mount[1] in NETWORK_FILE_SYSTEMS:
        raise QueueError(
            f"{path}: {mount[0]} is a network file system ({mount[1]}), on which a queue's database gets corrupted; "
            "put it on a local disk"
        )


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that has a database open. `pid` is None until the process has written it.

    `control` has the address and the token of its control endpoint; None if it announced none.
    """

    pid: int | None = None
    control: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """The name in errors."""
        return "another process (it has not written its pid yet)" if self.pid is None else f"process {self.pid}"


class OwnerLock:
    """This process's claim to a database: `flock` on `<database>.lock`, mode 0600, with one line of JSON.

    The line is `{"pid"}`, or `{"pid", "control"}` after `announce`. Any end of the process ends the lock. The file
    stays, empty after a clean release.
    """

    def __init__(self, database: Path) -> None:
        self.database = database
        self.path = _lock_file(database)
        self.left_behind = False
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock without waiting. `left_behind` is then true if the previous owner did not release it.

        Raises:
            QueueInUseError: another process has it; its pid is named.
            DiskFullError: no space is left for the file.
            QueueError: the file cannot be made or locked.
        """
        refuse_links([self.path], QueueError)
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | NO_LINK, 0o600)
        except OSError as error:
            text = (
                f"{self.database}: cannot make its lock file ({error.strerror}: {self.path}); the folder must exist "
                "and be writable"
            )
            raise disk_error(self.path, error) or QueueError(text) from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _in_use(self.database, _read_owner(fd)) from None
            os.fchmod(fd, 0o600)
            self.left_behind = bool(os.pread(fd, 1, 0))
            _write_line(fd, {"pid": os.getpid()})
        except OSError as error:
            os.close(fd)
            text = f"{self.database}: cannot lock {self.path}: {error.strerror}; use a local disk"
            raise disk_error(self.path, error) or QueueError(text) from error
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def announce(self, control: Mapping[str, Any] | None) -> None:
        """Write the `control` facts of this process beside its pid; None removes them. Raises QueueError."""
        if self._fd is None:
            raise QueueError(f"{self.database}: only the owner of its lock may announce itself")
        try:
            _write_line(self._fd, {"pid": os.getpid()} | ({} if control is None else {"control": dict(control)}))
        except OSError as error:
            raise disk_error(self.path, error) or QueueError(
                f"{self.path}: cannot be written: {error.strerror}"
            ) from error

    def release(self, *, clean: bool) -> None:
        """Release the lock; idempotent. `clean` False leaves the pid, so that the next owner checks the database."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            if clean:
                os.ftruncate(fd, 0)
        finally:
            os.close(fd)


def find_owner(database: Path) -> Owner | None:
    """The present owner of `database`, None if there is none. Changes nothing.

    Raises:
        OSError: the lock file cannot be read.
        QueueError: the lock file is a link, or the disk failed.
    """
    lock = _lock_file(database)
    refuse_links([lock], QueueError)
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | NO_LINK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise (disk_error(lock, error) or error) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_owner(fd)
    except OSError as error:
        raise (disk_error(lock, error) or error) from None
    finally:
        os.close(fd)
    return None


def is_left_behind(database: Path) -> bool:
    """Whether `database` has no owner and its last owner was killed before a release."""
    try:
        return _lock_file(database).stat().st_size > 0 and find_owner(database) is None
    except FileNotFoundError:
        return False


def owner_of(database: Path) -> str | None:
    """The present owner of `database` as `process 123`, None if there is none. Changes nothing."""
    owner = find_owner(database)
    return None if owner is None else str(owner)


def refuse_owned(database: Path) -> None:
    """Raise QueueInUseError, naming the pid, while another process owns `database`; changes nothing."""
    if owner := find_owner(database):
        raise _in_use(database, owner)


def _lock_file(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def _in_use(database: Path, owner: Owner) -> QueueInUseError:
    return QueueInUseError(
        f"{database} is in use by {owner}: stop that process, or give this one a database of its own"
    )


def _write_line(fd: int, content: Mapping[str, Any]) -> None:
    """Replace the content of the file; a reader finds the old line or the new one, whole."""
    line = orjson.dumps(content) + b"\n"
    os.pwrite(fd, line, 0)
    os.ftruncate(fd, len(line))


def _read_owner(fd: int) -> Owner:
    try:
        content = orjson.loads(os.pread(fd, _MOST_BYTES, 0).partition(b"\n")[0])
        pid, control = int(content["pid"]), content.get("control")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Owner()
    return Owner(pid, control if isinstance(control, dict) else None)
