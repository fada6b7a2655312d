"""Files of a run are files: a link in a directory that somebody sent would lead our writing elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from streaming_queue.errors import ConfigError, StreamingQueueError

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""For `os.open`: fail where the name is a symbolic link."""


def refuse_links(paths: Iterable[Path], error: type[StreamingQueueError] = ConfigError) -> None:
    """Raise `error`, naming the first path that is a symbolic link, a pipe or a device. Blocks."""
    for path in paths:
        try:
            mode = path.lstat().st_mode
        except OSError:  # there is none, or opening it will say why not
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
            raise error(f"{path}: is {kind}, and is not followed: a run's files lie in its directory themselves")
