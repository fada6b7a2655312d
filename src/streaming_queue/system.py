"""The operating systems on which the package runs."""

from __future__ import annotations

import sys

from streaming_queue.errors import ConfigError


def check_system() -> None:
    """Raise ConfigError on Windows: the package needs the file locks and signals of POSIX."""
    if sys.platform == "win32":
        raise ConfigError("Streaming Queue runs on Linux and macOS, not on Windows: use the Linux of WSL there")
