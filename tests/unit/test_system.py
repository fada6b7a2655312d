"""Windows is refused in one sentence, before anything that only POSIX has is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

POSIX = "('fcntl', 'grp', 'pwd', 'resource', 'termios', 'tty', 'uvloop')"
WINDOWS = f"""
import asyncio, multiprocessing, subprocess, sys, tempfile, typer  # which know by themselves where they are
sys.modules |= dict.fromkeys({POSIX})
{{imports}}
sys.platform = "win32"
sys.argv = ["stq", *{{arguments}}]
{{start}}
"""


@pytest.mark.parametrize(
    ("imports", "arguments", "start"),
    [
        ("from streaming_queue.cli import main", ["run", "-n", "1"], "main()"),
        ("from streaming_queue.runner.runner_base import RunnerBase, main", [], "main(RunnerBase)"),
    ],
    ids=["stq", "runner"],
)
def test_windows_is_refused(imports: str, arguments: list[str], start: str, tmp_path: Path) -> None:
    script = WINDOWS.format(imports=imports, arguments=arguments, start=start)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "Linux and macOS" in line
