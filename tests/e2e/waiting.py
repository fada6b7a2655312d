"""Waiting for what a run in another process does, and each question's one row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], object], timeout_s: float = 50.0) -> None:
    """Wait for what has to happen."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(path: Path, count: int) -> None:
    until(lambda: lines(path) >= count)


def assert_each_once(rows: list[dict], count: int) -> None:
    ids = Counter(row["question_id"] for row in rows)
    assert set(ids) == {f"q{number}" for number in range(count)}
    assert set(ids.values()) == {1}
