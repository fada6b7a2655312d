"""What others wrote for our protocols, each in an environment of its own under `.venv-interop/`, and agents of ours."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

ENVIRONMENTS = Path(__file__).parents[2] / ".venv-interop"

Tool = Callable[..., subprocess.CompletedProcess[str]]


def environment(name: str, *requirements: str, npm: Sequence[str] = ()) -> Path:
    """The environment with these packages, made where it is missing or holds others; its folder of commands.

    `npm` names packages of JavaScript; one of the `requirements` has to bring the command. Where they cannot be
    installed the test is skipped, in CI it fails.
    """
    home = ENVIRONMENTS / name
    made = home / "requirement.txt"
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        wanted = "\n".join([*requirements, *npm])
        if not made.exists() or made.read_text() != wanted:
            venv.create(home, with_pip=True, clear=True)
            try:
                _install(home, requirements, npm)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                if "CI" in os.environ:
                    raise
                pytest.skip(f"{name} cannot be installed: {error}")
            made.write_text(wanted)
    return home / "bin"


def _install(home: Path, requirements: Sequence[str], npm: Sequence[str]) -> None:
    commands = home / "bin"
    pip = [commands / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *requirements], check=True, timeout=500)
    if npm:
        line = [commands / "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", home, *npm]
        subprocess.run(line, check=True, timeout=500)


@pytest.fixture
def install(tmp_path: Path) -> Callable[[str, str], Tool]:
    """`install(name, requirement)` gives a way to run the package's commands, in a directory and a home of their own."""

    def install(name: str, requirement: str) -> Tool:
        commands = environment(name, requirement)
        variables = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "NO_COLOR": "1", "COLUMNS": "200"}

        def run(command: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
            line = [str(commands / command), *arguments]
            return subprocess.run(
                line, env=variables | more, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
            )

        return run

    return install


@dataclass
class Agent:
    url: str

    def begin(self, text: str = "What is the capital of France?") -> str:
        """Begin a task; its id."""
        message = {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}]}
        params = {"message": message, "configuration": {"returnImmediately": True}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}).encode()
        headers = {"content-type": "application/json", "a2a-version": "1.0"}
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        connection.request("POST", "/", body, headers)
        answer: dict[str, Any] = json.load(connection.getresponse())
        connection.close()
        return str(answer["result"]["task"]["id"])


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """`agent(role, latency_ms)` serves a `worker` or a `coordinator`, and waits until it is ready.

    A `guarded` worker takes the bearer credential `s3cret` only.
    """
    started: list[subprocess.Popen[str]] = []

    def start(role: str, latency_ms: float = 300) -> Agent:
        command = ["serve", role.replace("guarded", "worker"), "-p", "a2a", "--port", "0"]
        command += ["-s", f"mock.latency_ms={latency_ms}"]
        command += ["-s", "network.token=s3cret"] if role == "guarded" else []
        process = subprocess.Popen(
            [sys.executable, "-m", "streaming_queue.cli", *command],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        return Agent(process.stdout.readline().split()[-1])

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)
