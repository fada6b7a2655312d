"""Why an agent does not answer, as a person is told it; and commands that take their time to start."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from e2e.conftest import Stq
from e2e.waiting import until
from unit.protocol_backend import mcp

STARTER = Path(mcp.__path__[0], "starter.py")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "open"


def command(gate: Path, how: str = "elder", *more: str) -> str:
    return f"stdio:{shlex.join([sys.executable, '-S', str(STARTER), str(gate), how, *more])}"


def is_gone(gate: Path) -> bool:
    listed = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout
    return str(gate) not in listed


def test_workers_that_do_not_answer_are_grouped_by_their_reason(stq: Stq) -> None:
    endpoints = json.dumps([f"http://127.0.0.1:{port}" for port in (9, 10, 11, 12)])
    done = stq("run", "-n", "2", "-p", "http", "-o", "run", "-s", f"qa.worker.endpoints={endpoints}")
    assert done.returncode == 69, done.stderr
    assert "4 of 4 agents: cannot connect: connection refused (Worker-1 at http://127.0.0.1:9, " in done.stderr
    assert "and 1 more" in done.stderr


def test_a_worker_that_is_down_is_listed_with_why_and_since_when(stq: Stq, held_worker) -> None:
    one, other = (held_worker(free=0, protocol="http") for _ in range(2))
    endpoints = f"qa.worker.endpoints={json.dumps([one.address, other.address])}"
    process = stq.start("run", "-p", "http", "-q", str(stq.questions(8)), "-o", "run", "-c", "1", "-s", endpoints)

    def workers() -> dict[str, dict]:
        return {each["id"]: each for each in json.loads(stq("workers", "list", "run", "--json").stdout or "[]")}

    until(lambda: len(workers()) == 2)
    other.process.kill()
    until(lambda: workers()["Worker-2"]["state"] == "down")
    until(lambda: "connection refused" in workers()["Worker-2"]["reason"])
    listed = workers()
    assert (listed["Worker-1"]["reason"], listed["Worker-1"]["since"]) == (None, None)
    assert datetime.fromisoformat(listed["Worker-2"]["since"]).tzinfo is not None
    shown = stq("workers", "list", "run").stdout
    assert f"Worker-2 is down since {listed['Worker-2']['since']}: {other.address}: cannot connect" in shown
    stq.open_gate()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk


def test_a_server_that_is_slow_to_start_is_waited_for(stq: Stq, gate: Path) -> None:
    """Slower than any probe may be: it starts when the wait for it was told a second time, which is after five."""
    endpoints = f"qa.worker.endpoints={json.dumps([command(gate)])}"
    process = stq.start("run", "-p", "mcp", "-q", str(stq.questions(3)), "-o", "run", "-s", endpoints)
    assert process.stderr
    waits: list[str] = []
    for line in process.stderr:
        if "waiting for" in line:
            waits.append(line)
        if len(waits) == 2:
            gate.touch()
    process.wait(timeout=60)
    assert process.returncode == 0
    assert waits[0].startswith("[INFO] Worker-1: waiting for `")
    assert len(stq.rows()) == 3
    assert is_gone(gate)


def test_a_command_that_ends_is_69_with_its_last_words_and_no_secret(stq: Stq, gate: Path) -> None:
    gate.touch()
    endpoints = f"qa.worker.endpoints={json.dumps([command(gate, 'breaks', '--api-key', 'sesame-sesame')])}"
    for arguments in (("run", "-n", "2", "-o", "run", "-s", endpoints), ("doctor", json.loads(endpoints[20:])[0])):
        done = stq(*arguments, "-p", "mcp")
        assert done.returncode == 69, done
        said = done.stdout + done.stderr
        assert "the server ended (exit code 1): 'no such key: --api-key ***'" in said
        assert "sesame" not in said


def test_the_doctor_and_a_question_start_a_command_and_end_it(stq: Stq, gate: Path) -> None:
    gate.touch()
    address = command(gate)
    done = stq("doctor", address, "-p", "mcp")
    assert done.returncode == 0, done
    assert "protocol MCP 2025-06-18; tool ask(question); tools ask" in done.stdout
    assert is_gone(gate)
    done = stq("ask", address, "hello", "-p", "mcp")
    assert (done.returncode, done.stdout) == (0, "hello\n")
    assert is_gone(gate)
    wrong = stq("doctor", address)
    assert wrong.returncode == 2, "a2a knows no commands"
