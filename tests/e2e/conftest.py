"""The command as a user types it, in a directory of its own; workers in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

HERE = Path(__file__).parent


@dataclass
class Stq:
    """`stq(...)` runs the command to its end; `stq.start(...)` leaves it running."""

    directory: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("STQ_", "OPENAI_", "NATS_"))}
        return {**kept, "NO_COLOR": "1", "COLUMNS": "120"}

    def __call__(
        self, *arguments: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [sys.executable, "-m", "streaming_queue.cli", *map(str, arguments)],
            cwd=self.directory,
            env=self.environment | (env or {}),
            input=data if data is not None else b"",
            capture_output=True,
            timeout=100,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(
        self,
        *arguments: str,
        stdin: int | None = subprocess.DEVNULL,
        env: dict[str, str] | None = None,
        start_new_session: bool = False,
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "streaming_queue.cli", *map(str, arguments)],
            cwd=self.directory,
            env=self.environment | (env or {}),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=start_new_session,
        )
        self.started.append(process)
        return process

    def questions(self, count: int, name: str = "questions.jsonl") -> Path:
        path = self.directory / name
        lines = (json.dumps({"id": f"q{number}", "question": f"What is {number} + 1?"}) for number in range(count))
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def open_gate(self) -> None:
        """Let the agents of `held_worker` answer all questions."""
        (self.directory / "gate").touch()

    def rows(self, run: str = "run") -> list[dict]:
        return [json.loads(line) for line in (self.directory / run / "results.jsonl").read_text().splitlines()]

    def manifest(self, run: str = "run") -> dict:
        return json.loads((self.directory / run / "run.json").read_text())


@pytest.fixture
def stq(tmp_path: Path) -> Iterator[Stq]:
    command = Stq(tmp_path)
    yield command
    for process in command.started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


@dataclass
class Served:
    """An agent in a process of its own."""

    address: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0


def serve(stq: Stq, role: str, *arguments: str) -> Served:
    process = stq.start("serve", role, *arguments)
    assert process.stdout
    line = process.stdout.readline()
    assert " is ready at " in line, line or process.communicate(timeout=60)[1]
    return Served(line.split()[-1], process)


@pytest.fixture
def worker(stq: Stq) -> Callable[..., Served]:
    """`worker(latency_ms=5, port=0, protocol="a2a")` serves a worker with the mock, and waits until it is ready."""

    def start(*more: str, latency_ms: float = 0, port: int = 0, protocol: str = "a2a") -> Served:
        latency = ("-s", f"mock.latency_ms={latency_ms}")
        return serve(stq, "worker", "-p", protocol, "--port", str(port), *latency, *more)

    return start


@pytest.fixture
def agents(stq: Stq, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents of others, in the working directory, with a gate and a count of their runs."""
    shutil.copy(HERE / "agents_of_others.py", stq.directory)
    monkeypatch.setenv("TEST_GATE", str(stq.directory / "gate"))
    monkeypatch.setenv("TEST_RUNS", str(stq.directory / "runs.txt"))


@pytest.fixture
def held_worker(worker: Callable[..., Served], agents: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Served]:
    """`held_worker(free=40, protocol="a2a")` serves a worker that answers so many questions, the rest with the gate open.

    So a run over such workers stands still half way, on a machine of any speed, until `stq.open_gate()`.
    """

    def start(*more: str, free: int = 40, protocol: str = "a2a") -> Served:
        monkeypatch.setenv("TEST_FREE", str(free))
        return worker("--executor", "agents_of_others:Held", *more, protocol=protocol)

    return start


@pytest.fixture
def coordinator(stq: Stq) -> Callable[..., Served]:
    """`coordinator(*arguments)` serves a coordinator, and waits until it is ready."""
    return partial(serve, stq, "coordinator")


@pytest.fixture
def openai_server() -> Iterator[str]:
    """An OpenAI-compatible server that knows one key, `right-key`; its base URL."""
    command = [sys.executable, str(HERE / "openai_process.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.kill()


@pytest.fixture
def bad_worker() -> Iterator[Callable[[str], str]]:
    """`bad_worker(kind)` starts a peer that is healthy by its probe and answers questions as `kind` says."""
    started: list[subprocess.Popen[str]] = []

    def start(kind: str) -> str:
        command = [sys.executable, str(HERE / "bad_worker_process.py"), kind]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)
