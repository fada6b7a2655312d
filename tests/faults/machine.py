"""What this machine has; a test that needs more is skipped, with the reason."""

from __future__ import annotations

import os
import shutil

import pytest


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
