"""Files of a run must be regular files: a link in a received directory would lead our writes elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from streaming_queue.errors import ConfigError, StreamingQueueError

NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has none; `check_system` refuses Windows later
"""For `os.open`: fail if the name is a symbolic link."""


def refuse_links(paths: Iterable[Path], error: type[StreamingQueueError] = ConfigError) -> None:
    """Raise `error`, naming the first path that is a symbolic link, a pipe or a device. Blocks."""
    for path in paths:
        try:
            mode = path.lstat().st_mode
        except OSError:  # it does not exist, or `open` will fail with the reason
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
            raise error(f"{path}: is {kind}, and is refused: a run's directory must hold the files themselves")
