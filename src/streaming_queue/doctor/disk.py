"""Check the directory of a run: kind of disk, free space, rights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from streaming_queue.doctor.finding import Finding, ok, problem, warning
from streaming_queue.errors import QueueError
from streaming_queue.queue.lock import mount_of, refuse_network_file_system

MOUNTINFO = Path("/proc/self/mountinfo")
VOLATILE = frozenset({"tmpfs", "ramfs"})
SCARCE_BYTES = 512 * 1024**2
TOO_LITTLE_BYTES = 16 * 1024**2


def disk(directory: Path, mountinfo: Path = MOUNTINFO) -> list[Finding]:
    """Check whether a run can be in `directory`, which need not exist yet."""
    wanted = directory.absolute()
    existing = next(path for path in (wanted, *wanted.parents) if path.exists()).resolve()
    return [_file_system(existing, mountinfo), _space(existing), _rights(existing)]


def _file_system(path: Path, mountinfo: Path) -> Finding:
    try:
        refuse_network_file_system(path, mountinfo)
    except QueueError as error:
        return problem("file system", str(error), "name a directory on a local disk (-o)")
    try:
        mount = mount_of(str(path), mountinfo.read_text(errors="surrogateescape"))
    except OSError:
        mount = None
    if mount is None:
        return ok("file system", f"{path}: its kind is unknown on this system; use a local disk")
    if mount[1] in VOLATILE:
        seen = (
            f"{path}: {mount[0]} is kept in memory ({mount[1]}); a run there does not survive a restart of the machine"
        )
        return warning("file system", seen, "name a directory on a disk (-o)")
    return ok("file system", f"{path}: {mount[1]}")


def _space(path: Path) -> Finding:
    free = shutil.disk_usage(path).free
    seen = f"{free / 1024**2:,.0f} MiB free for {path}"
    if free < TOO_LITTLE_BYTES:
        return problem("disk space", seen, "free some, or name another directory (-o)")
    if free < SCARCE_BYTES:
        return warning("disk space", seen, "a question takes about 2 kB, and three times its texts")
    return ok("disk space", seen)


def _rights(path: Path) -> Finding:
    if not path.is_dir():
        return problem("writable", f"{path} is a file; a run needs a directory", "name another directory (-o)")
    if not os.access(path, os.W_OK | os.X_OK):
        return problem("writable", f"{path} cannot be written by this user", "correct its rights, or name another (-o)")
    return ok("writable", str(path))
