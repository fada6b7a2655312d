"""A command over a peer with a log of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from crashpoints.points import strace
from crashpoints.rig import COUNT, Log, Rig
from e2e.conftest import Stq, stq
from faults.conftest import history

__all__ = ["history", "stq"]

E2E = Path(__file__).parents[1] / "e2e"


@dataclass
class Witness:
    """A worker of the test's own: its address, its log, the file that makes it refuse, its process."""

    address: str
    log: Log
    refuse: Path
    process: subprocess.Popen[str]


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Callable[..., Witness]]:
    """`witness(seconds=0)` starts a worker whose answers take so long."""
    started: list[subprocess.Popen[str]] = []

    def start(seconds: float = 0) -> Witness:
        log, refuse = tmp_path / f"witness-{len(started)}.txt", tmp_path / "refuse"
        command = [sys.executable, Path(__file__).with_name("witness.py"), log, refuse, str(seconds)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        return Witness(process.stdout.readline().strip(), Log(log), refuse, process)

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)


@pytest.fixture
def model(stq: Stq) -> Iterator[tuple[str, Log]]:
    """Base URL and log of a model server of the test's own."""
    log = stq.directory / "model.txt"
    command = [sys.executable, str(E2E / "openai_process.py"), "0", "0.005", str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip(), Log(log)
        process.kill()


@pytest.fixture
def rig(stq: Stq, request: pytest.FixtureRequest) -> Callable[[str], Rig]:
    """`rig(name)`: the command of that name, prepared; `resume` over the model server, the others over the worker."""
    strace()

    def prepared(name: str) -> Rig:
        questions = ["-q", str(stq.questions(COUNT))]
        if name == "resume":
            url, log = request.getfixturevalue("model")
            env = {"OPENAI_API_KEY": "right-key", "OPENAI_BASE_URL": url}
            made = Rig(name, stq, log, [*questions, "-p", "inproc", "--llm", "openai", "--model", "test-model"], env)
        else:
            peer = request.getfixturevalue("witness")()
            start = [*questions, "-p", "http", "-s", f"qa.worker.endpoints=[{peer.address}]"]
            made = Rig(name, stq, peer.log, start, refuse=peer.refuse)
        made.prepare()
        return made

    return prepared
