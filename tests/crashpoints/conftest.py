"""A command over a peer with a log of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashpoints.points import strace
from crashpoints.rig import COUNT, Log, Rig
from e2e.conftest import Stq, serve, stq, worker
from faults.conftest import history

__all__ = ["history", "stq", "worker"]

E2E = Path(__file__).parents[1] / "e2e"


@pytest.fixture
def witness(stq: Stq, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Log]:
    """Address and log of a worker of the test's own."""
    shutil.copy(Path(__file__).with_name("witness.py"), stq.directory)
    monkeypatch.setenv("WITNESS_LOG", str(stq.directory / "witness.txt"))
    monkeypatch.setenv("WITNESS_REFUSE", str(stq.directory / "refuse"))
    served = serve(stq, "worker", "-p", "http", "--port", "0", "--executor", "witness:Witness")
    return served.address, Log(stq.directory / "witness.txt")


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
            address, log = request.getfixturevalue("witness")
            start = [*questions, "-p", "http", "-s", f"qa.worker.endpoints=[{address}]"]
            made = Rig(name, stq, log, start, refuse=stq.directory / "refuse")
        made.prepare()
        return made

    return prepared
