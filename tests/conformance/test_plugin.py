"""The kit in somebody else's repository: their settings of pytest, none of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = """
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend

class MyCommBackend(InprocCommBackend):
    name = "mine"
"""
TEST = """
from streaming_queue.testing import BackendContract
from my_package import MyCommBackend


class TestMine(BackendContract):
    backend_class = MyCommBackend
"""
SCOPE = "asyncio_default_fixture_loop_scope = function\n"  # its own plug-in warns where it is not set


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        pytest.param("", [], marks=pytest.mark.interop),
        ("asyncio_mode = auto\nasyncio_default_fixture_loop_scope = session\nfilterwarnings = error\n", []),
        pytest.param(
            f"asyncio_mode = strict\naddopts = --strict-markers --strict-config\n{SCOPE}filterwarnings = error\n",
            ["-n", "2"],
            marks=pytest.mark.interop,
        ),
    ],
    ids=["none", "auto", "strict and in parallel"],
)
def test_five_lines_are_a_test_file(tmp_path: Path, settings: str, arguments: list[str]) -> None:
    (tmp_path / "my_package.py").write_text(PACKAGE)
    (tmp_path / "test_mine.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{settings}")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.search(r"(\d+) passed, (\d+) skipped", done.stdout)
    assert counts, done.stdout
    assert int(counts[1]) > 50
