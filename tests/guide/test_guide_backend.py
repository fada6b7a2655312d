"""A backend written word for word after the guide's section 3, dropped into the package, runs.

`toy/` is kept as the guide has it: relative imports, fixed ports, its own bookkeeping, no `super().__init__()`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streaming_queue

HERE = Path(__file__).parent
PACKAGE = Path(streaming_queue.__file__).parent

pytestmark = pytest.mark.usefixtures("fixed_ports")


@pytest.fixture(scope="module")
def dropped_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the toy protocol dropped into it."""
    root = tmp_path_factory.mktemp("guide")
    package = root / "streaming_queue"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    toy = package / "protocol_backend" / "toy"
    toy.mkdir()
    for name in ("__init__.py", "comm.py", "coordinator.py", "worker.py", "serve_toy.py"):
        shutil.copy(HERE / "toy" / name, toy / name)
    for name in ("run_toy.py", "run_toy_external.py"):
        shutil.copy(HERE / "toy" / name, package / "runner" / name)
    shutil.copy(HERE / "config.yaml", root / "config.yaml")
    return root


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1"}


def run(root: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=root, env=environment(root), capture_output=True, text=True, timeout=100, check=False
    )


def rows_of(root: Path) -> list[dict]:
    (results,) = root.glob("runs/*/results.jsonl")
    return [json.loads(line) for line in results.read_text().splitlines()]


def test_situation_a_agents_in_this_process(dropped_in: Path) -> None:
    shutil.rmtree(dropped_in / "runs", ignore_errors=True)
    done = run(dropped_in, "streaming_queue.runner.run_toy")
    assert done.returncode == 0, done.stderr
    assert "idle, 2 workers" in done.stderr
    assert "50 of 50 questions answered" in done.stderr
    rows = rows_of(dropped_in)
    assert len(rows) == 50
    assert {row["protocol"] for row in rows} == {"toy"}
    assert {row["worker"] for row in rows} == {"Worker-1", "Worker-2"}
    assert all(row["answer"].startswith("[mock]") for row in rows)


@pytest.fixture
def agents_elsewhere(dropped_in: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "streaming_queue.protocol_backend.toy.serve_toy"]
    with subprocess.Popen(
        command, cwd=dropped_in, env=environment(dropped_in), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield
        process.terminate()


def test_situation_b_agents_elsewhere(dropped_in: Path, agents_elsewhere: None) -> None:
    shutil.rmtree(dropped_in / "runs", ignore_errors=True)
    done = run(dropped_in, "streaming_queue.runner.run_toy_external")
    assert done.returncode == 0, done.stderr
    assert "20 of 20 questions answered" in done.stderr
    assert len(rows_of(dropped_in)) == 20


def test_by_the_default_runner(dropped_in: Path) -> None:
    shutil.rmtree(dropped_in / "runs", ignore_errors=True)
    toy = "streaming_queue.protocol_backend.toy.comm:ToyCommBackend"
    done = run(dropped_in, "streaming_queue.cli", "run", "-p", toy, "-n", "20", "-w", "2", "-s", "mock.latency_ms=1")
    assert done.returncode == 0, done.stderr
    assert "20 of 20 questions answered" in done.stderr


def test_a_missing_question_file_is_never_a_success(dropped_in: Path) -> None:
    config = dropped_in / "config.yaml"
    before = config.read_text()
    config.write_text("qa: {coordinator: {data_file: nowhere.jsonl}, worker: {count: 2}}\n")
    try:
        done = run(dropped_in, "streaming_queue.runner.run_toy")
    finally:
        config.write_text(before)
    assert done.returncode == 2, done.stderr
    assert "nowhere.jsonl" in done.stderr
