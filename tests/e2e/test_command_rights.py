"""Commands by message, as a stranger on the network sends them: none starts a program, and few are obeyed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from e2e.waiting import wait_for_lines

CLERK = Path(__file__).parents[1] / "unit" / "protocol_backend" / "mcp" / "clerk.py"
ADDRESS = f"stdio:{shlex.quote(sys.executable)} -S {shlex.quote(str(CLERK))}"
WORKERS = ("-s", f"workers=[{{protocol: mcp, endpoints: [{json.dumps(ADDRESS)}]}}]")
TOKENS = {"STQ_NETWORK__TOKEN": "asks-sesame", "STQ_NETWORK__OPERATOR_TOKEN": "commands-sesame"}
ASKS = {"STQ_NETWORK__TOKEN": "asks-sesame"}


def post(address: str, text: str, token: str | None = None, **metadata: str) -> dict:
    headers = {"Content-Type": "application/json", "stq-kind": "command"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({"text": text, "metadata": metadata}).encode()
    with closing(HTTPConnection(urlsplit(address).netloc, timeout=60)) as connection:
        connection.request("POST", "/message", body, headers)
        return json.loads(connection.getresponse().read())


def codes(stq, address: str, token: str | None) -> set[str]:
    """What becomes of a join that would leave a file behind."""
    programs = (f"stdio:touch {stq.directory}/started", f"stdio://bin/touch {stq.directory}/started")
    found = {post(address, "join", token, worker_address=each)["error"]["code"] for each in programs}
    assert not (stq.directory / "started").exists()
    return found


def test_a_message_to_a_served_coordinator_starts_no_program(stq, coordinator) -> None:
    arguments = ("-p", "http", "-q", str(stq.questions(4)), *WORKERS)
    assert codes(stq, coordinator(*arguments).address, None) == {"auth"}
    tokens = [part for name, secret in (("token", "asks-sesame"), ("operator_token", "commands-sesame"))
              for part in ("-s", f"network.{name}={secret}")]  # fmt: skip
    address = coordinator(*arguments, *tokens).address
    assert codes(stq, address, None) == {"auth"}
    assert codes(stq, address, "asks-sesame") == {"auth"}
    assert codes(stq, address, "commands-sesame") == {"config"}
    assert "idle, 1 workers" in post(address, "status", "asks-sesame")["text"]


@pytest.mark.parametrize("token", [None, "asks-sesame"])
def test_nor_does_one_to_a_run_which_commands_its_own_coordinator_all_the_same(stq, token: str | None) -> None:
    process = stq.start(
        "run", "-q", "-", "-p", "http", "-o", "run", *WORKERS,
        env={"STQ_NETWORK__TOKEN": token} if token else {}, stdin=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin
    assert process.stderr
    process.stdin.write('{"id": "q0", "question": "0?"}\n')
    process.stdin.flush()
    line = next(line for line in process.stderr if "Coordinator-1 http://" in line)
    address = line.partition("Coordinator-1 ")[2].split(",")[0]
    wait_for_lines(stq.directory / "run" / "results.jsonl", 1)
    assert codes(stq, address, token) == {"auth"}
    added = stq("workers", "add", "run", f"stdio:touch {stq.directory}/started", "-p", "mcp")
    assert (added.returncode, (stq.directory / "started").exists()) == (2, False), added.stderr
    assert stq("workers", "add", "run", "http://127.0.0.1:9", "-p", "os:system").returncode == 2
    _, talk = process.communicate('{"id": "q1", "question": "1?"}\n', timeout=60)
    assert process.returncode == 0, talk
    assert {row["status"] for row in stq.rows()} == {"success"}


def test_the_token_of_the_workers_asks_and_the_operators_commands(stq, worker, monkeypatch) -> None:
    monkeypatch.setenv("STQ_NETWORK__TOKEN", "asks-sesame")
    first, second = (worker(protocol="http") for _ in range(2))
    arguments = ("serve", "coordinator", "-p", "http", "-q", str(stq.questions(4)), "--worker", first.address)
    alone = stq.start(*arguments, env=ASKS)
    assert alone.stdout
    address = alone.stdout.readline().split()[-1]
    assert stq("status", address, "-p", "http", env=ASKS).returncode == 0
    for command in (("dispatch", address), ("dispatch", address, "--follow")):
        refused = stq(*command, "-p", "http", env=ASKS)
        assert refused.returncode == 77, refused.stderr
        assert "network.operator_token" in refused.stderr
    alone.terminate()
    _, talk = alone.communicate(timeout=60)
    assert "dispatch by message needs network.operator_token" in talk

    served = stq.start(*arguments, "-o", "run", env=TOKENS)
    assert served.stdout
    address = served.stdout.readline().split()[-1]
    join = ("serve", "worker", "-p", "http", "--join", address)
    refused = stq(*join, env=ASKS)
    assert refused.returncode == 77, refused.stderr
    assert "stq workers add" in refused.stderr
    joined = stq.start(*join, env=TOKENS)
    assert joined.stderr
    assert next(line for line in joined.stderr if f"joined {address}" in line)
    asked = stq("ask", address, "What is 1 + 1?", "-p", "http", env=TOKENS)
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "stq run -q" in asked.stderr
    done = stq("dispatch", address, "--follow", "-p", "http", env=TOKENS)
    assert done.returncode == 0, done.stderr
    assert stq("attach", address, "-p", "http", env=TOKENS).returncode == 0
    assert stq("ask", second.address, "q", "-p", "http", env=TOKENS).returncode == 0
    written = "".join(path.read_text() for path in (stq.directory / "run").glob("*.json*"))
    assert "sesame" not in written + talk + done.stdout + done.stderr + refused.stderr
