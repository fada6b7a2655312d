"""The systems that the package runs on."""

from __future__ import annotations

import sys

from streaming_queue.errors import ConfigError


def check_system() -> None:
    """Raise ConfigError on Windows: files are locked, and signals obeyed, as POSIX says."""
    if sys.platform == "win32":
        raise ConfigError("Streaming Queue runs on Linux and macOS, not on Windows: use the Linux of WSL there")
