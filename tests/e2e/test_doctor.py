"""The doctor as a user calls it: real agents, a real provider, real directories of runs."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from e2e.protocols import ALL, EVERY, ONE, some_of
from e2e.waiting import until


def findings(done):
    """The findings of `--json`, by check."""
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is (done.returncode == 0)
    return {finding["check"]: finding for finding in report["findings"]}


def problems(done):
    return [check for check, finding in findings(done).items() if finding["level"] == "problem"]


# --- this machine and the settings ---


def test_a_machine_that_is_fine(stq):
    began = time.monotonic()
    done = stq("doctor")
    assert time.monotonic() - began < 30
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith(" warnings, 0 problems")
    assert "mock (no provider is configured; answers are made up)" in done.stdout
    assert list(stq.directory.iterdir()) == []


def test_settings_that_are_wrong(stq):
    (stq.directory / "c.yaml").write_text("qa:\n  worker:\n    cuont: 3\n")
    done = stq("doctor", "c.yaml", "--json")
    assert (done.returncode, problems(done)) == (2, ["configuration"])
    assert "c.yaml:3" in findings(done)["configuration"]["seen"]


def test_a_port_that_is_taken(stq):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = stq("doctor", "--json", "-s", f"qa.coordinator.port={port}")
    assert (done.returncode, problems(done)) == (2, ["ports"])
    if Path("/proc/net/tcp").exists():
        assert f"taken by process {os.getpid()} (" in findings(done)["ports"]["seen"]


def test_too_few_open_files(stq):
    command = [sys.executable, "-m", "streaming_queue.cli", "doctor", "--json"]
    done = subprocess.run(
        command,
        cwd=stq.directory,
        env=stq.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )
    assert (done.returncode, problems(done)) == (2, ["open files"])


def test_a_terminal_without_utf_8(stq):
    done = stq("doctor", "--json", env={"PYTHONIOENCODING": "latin-1", "https_proxy": "http://u:hunter2@proxy:1"})
    found = findings(done)
    assert (found["terminal"]["level"], found["variables"]["level"]) == ("warning", "warning")
    assert "hunter2" not in done.stdout


# --- agents ---


@pytest.mark.parametrize("protocol", EVERY)
def test_an_agent(stq, worker, protocol):
    url = worker(protocol=protocol).address
    done = stq("doctor", url, "-p", protocol)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"agent at {url}: healthy; " in done.stdout
    if protocol == "a2a":
        assert "name Worker" in done.stdout
        assert f"used JSONRPC 1.0 at {url}/; streaming yes" in done.stdout


@pytest.mark.parametrize("protocol", some_of([each for each in ALL if each != "anp"], ONE))  # anp has identities
def test_an_agent_that_wants_a_credential(stq, worker, protocol):
    url = worker("-s", "network.token=the-right-token", protocol=protocol).address
    (stq.directory / "c.yaml").write_text(f"protocol: {protocol}\nnetwork: {{token: the-right-token}}\n")
    for token, code in ((None, 77), ("an-0ther-t0ken", 77), ("the-right-token", 0)):
        environment = {"STQ_DEBUG": "1", **({"STQ_NETWORK__TOKEN": token} if token else {})}
        done = stq("doctor", url, "--json", "-s", f"protocol={protocol}", env=environment)
        assert (done.returncode, problems(done)) == (code, ["agent"] if code else [])
        assert token is None or token not in done.stdout + done.stderr
    assert stq("doctor", url, "c.yaml").returncode == 0


def test_nobody_at_the_address(stq):
    done = stq("doctor", "http://127.0.0.1:9", "--json")
    assert (done.returncode, problems(done)) == (69, ["address"])


def test_another_protocol_than_the_agents(stq, worker):
    done = stq("doctor", worker(protocol="http").address, "-p", "a2a", "--json")
    assert (done.returncode, problems(done)) == (69, ["agent"])
    assert "no agent card" in findings(done)["agent"]["seen"]


def test_all_workers_elsewhere_are_looked_at(stq, worker):
    url = worker().address
    done = stq("doctor", "-s", f"qa.worker.endpoints=[{url}, 'http://127.0.0.1:9']")
    assert done.returncode == 69
    assert f"Worker-1 at {url}: healthy; " in done.stdout
    assert "Worker-2 at http://127.0.0.1:9: nothing listens at 127.0.0.1:9" in done.stdout


# --- the provider ---


@pytest.mark.parametrize(
    ("key", "code", "said"),
    [("right-key", 0, "the key is accepted; model test-model is there"), ("wr0ng-key-0123", 77, "401 Unauthorized")],
)
def test_a_provider_and_our_key(stq, openai_server, key, code, said):
    environment = {"OPENAI_BASE_URL": openai_server, "OPENAI_API_KEY": key, "STQ_DEBUG": "1", "OPENAI_LOG": "debug"}
    for form in ((), ("--json",)):
        done = stq("doctor", *form, "-s", "core.name=test-model", env=environment)
        assert done.returncode == code, done.stdout
        assert said in done.stdout
        shown = done.stdout + done.stderr
        assert not any(key[start : start + 6] in shown for start in range(len(key) - 5))


def test_a_provider_that_does_not_answer(stq):
    environment = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "right-key", "STQ_DEBUG": "1"}
    done = stq("doctor", "--json", env=environment)
    assert (done.returncode, problems(done)) == (69, ["provider"])
    assert "right-key" not in done.stdout + done.stderr


def test_a_provider_that_says_nothing_is_not_waited_for_long(stq):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        done = stq("doctor", "--json", "-s", f"core.port={silent.getsockname()[1]}")
        assert time.monotonic() - began < 30
    assert (done.returncode, problems(done)) == (69, ["provider"])


def test_no_key_for_openai_itself(stq):
    done = stq("doctor", "--json", "-s", "core.type=openai")
    assert (done.returncode, problems(done)) == (2, ["provider"])
    assert "set OPENAI_API_KEY" in findings(done)["provider"]["seen"]


# --- runs ---


def test_a_finished_run(stq):
    assert stq("run", "-p", "inproc", "-n", "5", "-o", "run", "-s", "mock.latency_ms=0").returncode == 0
    done = stq("doctor", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 answered, 0 failed, 0 open; all pages are whole" in done.stdout


@pytest.mark.interop
def test_a_run_that_is_going_on_then_killed_then_resumed(stq):
    process = stq.start(
        "run", "-q", stq.questions(60), "-o", "run", "-p", "inproc", "-w", "1", "-c", "2", "-s", "mock.latency_ms=2000"
    )
    rows = stq.directory / "run" / "results.jsonl"
    until(lambda: process.poll() is not None or (rows.exists() and rows.stat().st_size))
    assert process.poll() is None
    done = stq("doctor", "run", "--json")
    assert (done.returncode, problems(done)) == (0, [])
    assert findings(done)["owner"]["seen"] == f"process {process.pid} works on it"
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)

    done = stq("doctor", "run", "--json")
    assert (done.returncode, problems(done)) == (0, [])
    assert "it was killed" in findings(done)["run.json"]["seen"]
    assert findings(done)["next"]["remedy"] == "stq resume run goes on with them"
    assert stq("resume", "run", "-s", "mock.latency_ms=1").returncode == 0
    assert "nothing is left to do" in stq("doctor", "run").stdout
    assert len({row["question_id"] for row in stq.rows()}) == 60


@pytest.mark.interop
def test_what_is_told_of_a_damaged_run_is_true(stq):
    """Without its database a resume asks everything again and replaces the rows, as the doctor says."""
    assert stq("run", "-p", "inproc", "-n", "5", "-o", "run", "-s", "mock.latency_ms=0").returncode == 0
    queue = stq.directory / "run" / "queue.db"
    whole = queue.read_bytes()

    queue.write_bytes(whole[:-4096])
    done = stq("doctor", "run", "--json")
    assert (done.returncode, problems(done)) == (2, ["queue.db"])
    assert stq("resume", "run").returncode != 0

    queue.write_bytes(whole[:4096] + bytes(byte ^ 0xFF for byte in whole[4096:4200]) + whole[4200:])
    done = stq("doctor", "run", "--json")
    assert (done.returncode, problems(done)) == (2, ["queue.db"])

    queue.unlink()
    done = stq("doctor", "run", "--json")
    assert (done.returncode, problems(done)) == (2, ["queue.db"])
    before = {row["timestamp"] for row in stq.rows()}
    assert stq("resume", "run").returncode == 0
    assert before.isdisjoint(row["timestamp"] for row in stq.rows())
    assert stq("doctor", "run").returncode == 0


@pytest.mark.parametrize(
    ("manifest", "said"), [(None, "it has no run.json"), ("{", "not valid JSON"), ('{"format": 2}', "is newer")]
)
def test_a_manifest_that_cannot_be_used(stq, manifest, said):
    assert stq("run", "-p", "inproc", "-n", "2", "-o", "run", "-s", "mock.latency_ms=0").returncode == 0
    path = stq.directory / "run" / "run.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    done = stq("doctor", "run", "--json")
    assert (done.returncode, problems(done)) == (2, ["run.json"])
    assert said in findings(done)["run.json"]["seen"]
    assert findings(done)["queue.db"]["level"] == "ok"


def test_neither_a_file_nor_a_directory_nor_an_address(stq):
    done = stq("doctor", "nothing-here")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nothing-here: no run's directory")
