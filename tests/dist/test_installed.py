"""The wheel in an environment with nothing else, far from the checkout: it runs, resumes, and asks."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Installed:
    bin: Path
    directory: Path

    def _how(self, command: str) -> dict[str, Any]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST_"))}
        environment = {**kept, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
        return {"args": shlex.split(command), "cwd": self.directory, "env": environment, "text": True}

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(**self._how(command), capture_output=True, timeout=500, check=False)

    def start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(**self._how(command), stdout=subprocess.PIPE)

    def works(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    home = tmp_path_factory.mktemp("far")
    venv.create(home / "venv", with_pip=True)
    (home / "here").mkdir()
    installed = Installed(home / "venv" / "bin", home / "here")
    (wheel,) = (ROOT / "dist").glob("*.whl")
    pip = "pip install --quiet --disable-pip-version-check"
    installed.works(f"{pip} --constraint {shlex.quote(str(ROOT / 'constraints.txt'))} {shlex.quote(str(wheel))}")
    where = installed.works("python -c 'import streaming_queue; print(streaming_queue.__file__)'").strip()
    assert Path(where).is_relative_to(home)
    return installed


def test_it_runs(installed: Installed) -> None:
    assert "291 of 291 questions answered, 0 failed" in installed.works("stq run -s mock.latency_ms=1")


def test_it_resumes(installed: Installed) -> None:
    results = installed.directory / "half" / "results.jsonl"
    with installed.start("stq run -n 60 -w 1 -c 1 -o half -s mock.latency_ms=100 --json") as process:
        assert process.stdout
        assert process.stdout.readline().startswith("{")
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert process.returncode == 143
    assert 0 < len(results.read_text().splitlines()) < 60
    installed.works("stq resume half")
    assert len({json.loads(line)["question_id"] for line in results.read_text().splitlines()}) == 60


def test_it_asks(installed: Installed) -> None:
    with installed.start("stq serve worker --port 0") as process:
        assert process.stdout
        address = process.stdout.readline().split()[-1]
        assert "[mock]" in installed.works(f"stq ask {address} 'What is the capital of France?'")
        process.terminate()
    assert process.returncode == 0


def test_a_missing_extra_is_named_with_a_remedy_that_works(installed: Installed) -> None:
    refused = installed.run("stq run -p ws -n 5")
    assert refused.returncode == 2
    (error,) = (line for line in refused.stderr.splitlines() if "websockets" in line)
    remedy = error[error.index("pip install") :]
    installed.works(f"{remedy} --quiet")
    assert "5 of 5 questions answered" in installed.works("stq run -p ws -n 5 -s mock.latency_ms=1")


def test_it_writes_a_package(installed: Installed) -> None:
    installed.works("stq protocol new my-proto")
    assert (installed.directory / "my-proto" / ".github" / "workflows" / "ci.yml").exists()
