"""A run's directory that somebody edited: nothing in it acts before its user says so."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

CLERK = Path(__file__).parents[1] / "unit" / "protocol_backend" / "mcp" / "clerk.py"
COMMAND = f"stdio:{shlex.quote(sys.executable)} -S {shlex.quote(str(CLERK))} --token s3cret-token"
EVIL = "open('imported', 'w')\nfrom streaming_queue.protocol_backend.inproc.comm import InprocCommBackend as Backend\n"
QUESTIONS = 3


@pytest.fixture(autouse=True)
def own_state(stq, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(stq.directory / "state"))


def begun(stq, *more: str):
    """A run of its user's own, with something left to ask."""
    done = stq("run", "-q", stq.questions(QUESTIONS), "-o", "run", "-n", "1", *more)
    assert done.returncode == 0, done.stderr
    edit(stq, state="stopped")


def edit(stq, *, state: str | None = None, **settings):
    """Change run.json as anybody could; `qa__worker` stands for qa.worker."""
    path = stq.directory / "run" / "run.json"
    manifest = json.loads(path.read_text())
    manifest["state"] = state or manifest["state"]
    for key, value in settings.items():
        *sections, name = key.split("__")
        place = manifest["config"]
        for section in sections:
            place = place[section]
        place[name] = value
    path.write_text(json.dumps(manifest))


def test_ones_own_command_goes_on_without_a_question_and_an_edited_one_does_not_start(stq):
    begun(stq, "-p", "mcp", "-s", f"qa.worker.endpoints={json.dumps([COMMAND])}")
    assert stq("doctor", "run").returncode == 0
    done = stq("resume", "run", "-n", "2")
    assert (done.returncode, len(stq.rows())) == (0, 2), done.stderr
    shown = "".join(path.read_text(errors="replace") for path in (stq.directory / "run").iterdir())
    assert "s3cret" not in shown + done.stdout + done.stderr

    edit(stq, state="stopped", qa__worker__endpoints=["stdio:touch started\x1b[2J", "stdio:touch started"])
    refused, checked = stq("resume", "run", "-n", "3"), stq("doctor", "run", "--json")
    assert (refused.returncode, checked.returncode) == (2, 2)
    listed = [line for line in refused.stderr.splitlines() if " starts " in line]
    assert [line.split()[0] for line in listed] == ["qa.worker.endpoints[0]", "qa.worker.endpoints[1]"]
    assert "\x1b" not in refused.stderr + refused.stdout
    seen = [finding["seen"] for finding in json.loads(checked.stdout)["findings"] if finding["check"] == "trust"]
    assert sum(" starts " in text for text in seen) == 2
    assert not (stq.directory / "started").exists()

    stq("doctor", "run", "--trust")
    assert (stq.directory / "started").exists()
    own = f"qa.worker.endpoints={json.dumps([COMMAND])}"
    assert stq("resume", "run", "-n", "3", "-s", own).returncode == 0
    assert stq("resume", "run").returncode == 0


def test_a_class_is_not_imported_before_it_is_trusted(stq):
    (stq.directory / "evil.py").write_text(EVIL)
    begun(stq, "-p", "inproc")
    assert not (stq.directory / "state").exists()  # nothing acts, so nothing is marked
    edit(stq, protocol="evil:Backend")
    assert [stq(verb, "run").returncode for verb in ("resume", "doctor")] == [2, 2]
    assert not (stq.directory / "imported").exists()
    done = stq("resume", "run", "--trust", "-n", "2")
    assert (done.returncode, len(stq.rows())) == (0, 2), done.stderr
    assert (stq.directory / "imported").exists()
    edit(stq, state="stopped")
    assert stq("resume", "run").returncode == 0  # now it is marked


def test_the_working_directory_is_no_library(stq):
    begun(stq, "-p", "http", "-w", "1")
    edit(stq, qa__worker__mode="process")
    (stq.directory / "orjson.py").write_text("open('imported', 'w')\n")
    script = Path(sys.executable).with_name("stq")
    done = subprocess.run(
        [script, "resume", "run", "-n", "2"], cwd=stq.directory, env=stq.environment, timeout=100, check=False
    )
    assert (done.returncode, len(stq.rows())) == (0, 2)
    assert not (stq.directory / "imported").exists()


@pytest.mark.interop
def test_dead_letters_write_no_file_elsewhere(stq, tmp_path):
    failing = ("-s", "mock.failure_rate=1", "-s", "scheduler.max_attempts=1")
    assert stq("run", "-q", stq.questions(1), "-o", "run", "-p", "inproc", *failing).returncode == 3
    edit(stq, qa__coordinator__result_file=str(tmp_path / "elsewhere" / "report.json"))
    assert stq("dlq", "list", "run").returncode == 0
    assert stq("dlq", "replay", "run").returncode == 2
    assert stq("dlq", "purge", "run", "--yes").returncode == 2
    assert not (tmp_path / "elsewhere").exists()
    assert stq("dlq", "purge", "run", "--yes", "--trust").returncode == 0
    assert (tmp_path / "elsewhere" / "report.json").exists()
