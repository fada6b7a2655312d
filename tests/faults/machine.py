"""What this machine has, and waiting for what has to happen."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable

import pytest


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait for what has to happen."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def program(name: str) -> str:
    """The path of a program; skips the test where there is none."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def root() -> None:
    """Skip the test where we are not root."""
    if os.geteuid() != 0:
        pytest.skip("only root may do that")
