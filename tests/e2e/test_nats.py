"""Runs over NATS: no server configured, one that is, and what is lost when something goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.waiting import assert_each_once, until, wait_for_lines
from unit.protocol_backend.nats.servers import NatsServer

PASSWORD = "hunter2-s3cret"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A server that wants a password; `server(password)` is its URL."""
    directory = tmp_path / "server"
    directory.mkdir()
    with NatsServer(directory, f'authorization {{user: "me", password: "{PASSWORD}"}}') as running:
        yield lambda password: f"nats://me:{password}@127.0.0.1:{running.port}"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command puts what it keeps for a while."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def test_a_thousand_questions_without_any_server_configured(stq, scratch) -> None:
    done = stq("run", "-q", stq.questions(1000), "-p", "nats", "-w", "4", "-o", "run", "-s", "mock.latency_ms=1")
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 1000)
    assert {row["protocol"] for row in stq.rows()} == {"nats"}
    assert list(scratch.iterdir()) == []


def test_a_run_that_is_killed_leaves_no_server_and_can_be_resumed(stq, scratch) -> None:
    process = stq.start(
        "run", "-q", str(stq.questions(300)), "-p", "nats", "-w", "2", "-o", "run", "-s", "mock.latency_ms=500"
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 30)
    assert [path.name.startswith("stq-nats-") for path in scratch.iterdir()] == [True]
    process.kill()
    process.communicate()
    until(lambda: not list(scratch.iterdir()))
    done = stq("resume", "run", "-s", "mock.latency_ms=1")
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 300)


def test_ctrl_c_drains_before_the_server_goes(stq) -> None:
    process = stq.start(
        "run", "-q", str(stq.questions(300)), "-p", "nats", "-w", "2", "-o", "run", "-s", "mock.latency_ms=500",
        start_new_session=True,
    )  # fmt: skip
    wait_for_lines(stq.directory / "run" / "results.jsonl", 10)
    os.killpg(process.pid, signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130, talk
    assert "[ERROR]" not in talk
    rows = stq.rows()
    assert 10 <= len(rows) < 300
    assert {row["status"] for row in rows} == {"success"}


def test_a_server_that_is_configured_is_used_and_its_password_shown_nowhere(stq, server) -> None:
    environment = {"NATS_URL": server(PASSWORD), "STQ_DEBUG": "1"}
    done = stq("run", "-n", "20", "-p", "nats", "-o", "run", "-s", "mock.latency_ms=1", env=environment)
    assert done.returncode == 0, done.stderr
    port = environment["NATS_URL"].rpartition(":")[2]
    assert f"nats://127.0.0.1:{port}/stq." in done.stderr
    shown = stq("config", "show", env=environment).stdout
    assert "NATS_URL" in shown
    written = "".join(path.read_text(errors="replace") for path in (stq.directory / "run").iterdir() if path.is_file())
    for text in (done.stdout, done.stderr, shown, written):
        assert PASSWORD not in text


def test_a_wrong_password_is_77_and_shown_nowhere(stq, server) -> None:
    environment = {"NATS_URL": server("wr0ng-one"), "STQ_DEBUG": "1"}
    done = stq("run", "-n", "2", "-p", "nats", "-o", "run", env=environment)
    assert done.returncode == 77, done.stderr
    assert "refuses our credentials; check nats.url" in done.stderr
    assert "wr0ng-one" not in done.stdout + done.stderr
    assert not (stq.directory / "run").exists()


def test_a_wrong_password_for_workers_elsewhere_is_77(stq, server) -> None:
    port = server("").rpartition(":")[2]
    endpoint = f"qa.worker.endpoints=[nats://127.0.0.1:{port}/team.shared]"
    done = stq("run", "-n", "2", "-p", "nats", "-o", "run", "-s", endpoint)
    assert done.returncode == 77, done.stderr
    assert "refuses our credentials; check nats.url" in done.stderr


@pytest.mark.parametrize("value", ["http://h:4222", "nats://me:s3cret@h:99999", "s3cret@h"])
def test_what_is_no_server_is_2(stq, value: str) -> None:
    done = stq("run", "-n", "2", "-p", "nats", "-o", "run", env={"NATS_URL": value})
    assert done.returncode == 2, done.stderr
    assert "nats.url" in done.stderr
    assert "s3cret" not in done.stderr


def test_a_server_that_is_not_there_is_69(stq) -> None:
    done = stq("run", "-n", "2", "-p", "nats", "-o", "run", "-s", "nats.url=nats://127.0.0.1:9")
    assert done.returncode == 69, done.stderr
    assert "nats://127.0.0.1:9: cannot connect" in done.stderr


def test_two_instances_of_a_worker_share_a_run_and_one_that_is_killed_loses_nothing(stq, server) -> None:
    environment = {"NATS_URL": server(PASSWORD)}
    arguments = ("-p", "nats", "-s", "nats.prefix=team", "--agent-id", "shared", "-s", "mock.latency_ms=30")
    instances = [stq.start("serve", "worker", *arguments, env=environment) for _ in range(2)]
    addresses = {process.stdout.readline().split()[-1] for process in instances}
    assert len(addresses) == 1
    assert addresses.pop().endswith("/team.shared")
    endpoint = f"qa.worker.endpoints=[nats://127.0.0.1:{environment['NATS_URL'].rpartition(':')[2]}/team.shared]"
    run = stq.start(
        "run", "-q", str(stq.questions(1000)), "-p", "nats", "-o", "run", "-c", "16", "-s", endpoint, env=environment
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 200)
    instances[0].kill()
    _, talk = run.communicate(timeout=60)
    assert run.returncode == 0, talk
    rows = stq.rows()
    assert_each_once(rows, 1000)
    assert {row["attempts"] for row in rows} == {1}
    assert "is down" not in talk


def test_a_fixed_port_is_the_servers_and_a_taken_one_is_69(stq, worker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = worker(protocol="nats", port=port).address
    assert address == f"nats://127.0.0.1:{port}/stq.Worker-1"
    assert json.loads(stq("ask", address, "q", "-p", "nats", "--json").stdout)["text"].startswith("[mock]")
    done = stq("run", "-n", "2", "-o", "run", "-p", "nats", "-s", f"qa.coordinator.port={port}")
    assert done.returncode == 69, done.stderr
    assert f"127.0.0.1:{port}: the port is in use" in done.stderr


def test_the_module_runs(stq) -> None:
    (stq.directory / "config.yaml").write_text("qa: {coordinator: {limit: 4}}\nmock: {latency_ms: 1}\n")
    command = [sys.executable, "-m", "streaming_queue.runner.run_nats"]
    done = subprocess.run(
        command, cwd=stq.directory, env=stq.environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 of 4 questions answered" in done.stderr
