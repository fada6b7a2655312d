"""What a document starts with `&`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_background(command: str, directory: Path, environment: dict[str, str]) -> Iterator[None]:
    """An agent that a page starts with `&`: ready when it has said so, told to stop at the end, which it does well."""
    with subprocess.Popen(
        f"exec {command.removesuffix(' &')}",
        shell=True, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert "ready" in process.stdout.readline(), command
        yield
        process.terminate()
        _, talk = process.communicate(timeout=60)
        assert process.returncode == 0, f"{command}: {talk}"
