from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from streaming_queue.cli import main
from streaming_queue.extras import install_command
from streaming_queue.testing.contract import CONTRACT, KIT_VERSION

MINE = """
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend

class Fine(InprocCommBackend):
    name = "fine"

class Untidy(InprocCommBackend):
    name = "untidy"

    async def send(self, src_id, dst_id, payload):
        reply = await super().send(src_id, dst_id, payload)
        return {**reply, "text": reply["text"] + "\\x1b[2J"}

class Needy(InprocCommBackend):
    def __init__(self, url, **options):
        super().__init__(**options)
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def stq(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streaming_queue.cli", "protocol", "test", *arguments],
        cwd=directory, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_a_backend_that_holds(mine: Path) -> None:
    done = stq(mine, "mine:Fine")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"fine (mine:Fine), contract {KIT_VERSION}", "claims host, streaming, cancel, metadata"]
    assert "send      Messages                 7 held  1 skipped" in lines
    assert "fault     Faults of a network      1 held  6 skipped" in lines
    assert "  not claimed: identity (claim-2)" in lines
    assert " held, 0 failed, " in lines[-1]


def test_as_json_and_as_junit_whatever_the_users_own_settings_are(mine: Path) -> None:
    (mine / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (mine / "conftest.py").write_text("raise RuntimeError('not to be read')\n")
    done = stq(mine, "mine:Untidy", "--json", "--junit", "out.xml", PYTEST_ADDOPTS="--no-such-option")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert {key: report[key] for key in ("protocol", "backend", "kit_version", "claims", "failed")} == {
        "protocol": "untidy",
        "backend": "mine:Untidy",
        "kit_version": KIT_VERSION,
        "claims": ["host", "streaming", "cancel", "metadata"],
        "failed": len([line for line in report["lines"] if line["outcome"] == "failed"]),
    }
    assert [line["id"] for line in report["lines"]] == list(CONTRACT)
    first = report["lines"][0]
    assert (first["id"], first["outcome"], len(first["checks"])) == ("send-1", "failed", 8)
    assert r"\x1b[2J" in first["told"][0]
    cases = ET.parse(mine / "out.xml").getroot().findall(".//testcase")  # noqa: S314 (our own file)
    assert len(cases) == sum(len(line["checks"]) for line in report["lines"])
    assert {case.find("properties/property").attrib["value"] for case in cases} == set(CONTRACT)


def test_what_failed_is_shown_harmless_and_ends_with_3(mine: Path) -> None:
    done = stq(mine, "mine:Untidy")
    assert done.returncode == 3
    assert "send-1 does not hold: A text arrives byte for byte" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_backend_that_cannot_be_made_fails_once(mine: Path) -> None:
    done = stq(mine, "mine:Needy")
    assert done.returncode == 3
    assert done.stdout.count("missing 1 required positional argument: 'url'") == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [("htp", "unknown protocol 'htp': did you mean 'http'?"), ("mine:Nobody", "module 'mine' has no class 'Nobody'")],
)
def test_an_unknown_protocol(mine: Path, name: str, told: str) -> None:
    done = stq(mine, name)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_without_pytest_it_says_what_to_install(mine: Path) -> None:
    script = (
        "import sys; sys.modules['pytest'] = None; from streaming_queue.cli import main; "
        "main(['protocol', 'test', 'inproc'])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=mine, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert install_command("testing") in done.stderr


def test_an_agent_of_others(mine: Path) -> None:
    done = stq(mine, "mine:Fine", "--endpoint", "inproc://w")
    assert done.returncode == 3
    assert "send-4 does not hold" in done.stdout
    assert "inproc://w: no agent is hosted there" in done.stdout
    assert "  the agent at inproc://w is not ours: its behaviour is not known (send-5, send-6, send-7," in done.stdout


def test_a_name_that_cannot_be_used_writes_nothing(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["protocol", "new", "http"])
    assert caught.value.code == 2
    assert "error: protocol name 'http' is taken" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_output_names_the_places_to_edit(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["protocol", "new", "acme", "-o", "some where"])
    assert caught.value.code == 0
    assert "pip install -e 'some where[dev]'" in capsys.readouterr().out
    assert (tmp_path / "some where" / "src" / "acme" / "comm.py").exists()


def bench(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streaming_queue.cli", "protocol", "bench", *arguments],
        cwd=directory, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_a_protocol_is_measured_beside_another(mine: Path) -> None:
    done = bench(mine, "mine:Fine", "-n", "20", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, _, heads, units, fine, http, _, note = done.stdout.splitlines()
    assert first == "20 questions, 4 workers x 8 slots, instant answers, median of 1 rounds"
    assert heads.split("  ")[0] == "PROTOCOL"
    assert units.split() == ["us/question"] * 2 + ["bytes/question"] * 2
    name, *figures = fine.split()
    assert (name, figures[2], figures[4]) == ("mine:Fine", "n/a", "n/a")
    name, *figures = http.split()
    assert name == "http"
    assert all(int(figure.replace(",", "")) > 0 for figure in figures)
    assert note.startswith("mine:Fine: the workers are in the coordinator's process")
    assert max(map(len, done.stdout.splitlines()[:6])) < 100


def test_a_measurement_as_one_object(mine: Path) -> None:
    done = bench(mine, "inproc", "--against", "", "-n", "20", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (row,) = report.pop("rows")
    assert report == {"questions": 20, "rounds": 1, "workers": 4, "slots": 8}
    assert list(row) == [
        "protocol", "in_process", "questions_per_s", "coordinator_us", "workers_us", "payload_bytes", "wire_bytes",
    ]  # fmt: skip
    assert (row["protocol"], row["in_process"], row["workers_us"], row["wire_bytes"]) == ("inproc", True, None, None)


def test_an_unknown_protocol_is_not_measured(mine: Path) -> None:
    done = bench(mine, "http", "--against", "htp")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown protocol 'htp': did you mean 'http'?" in done.stderr
