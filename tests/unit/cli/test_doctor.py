from __future__ import annotations

import json
import os
import re
import shutil
import sys

import pytest

from streaming_queue.cli import main
from streaming_queue.doctor import plan
from streaming_queue.doctor.examination import Check
from streaming_queue.doctor.finding import ok, problem, warning
from streaming_queue.exit_codes import ExitCode

FOUND = [
    ok("python", "3.11"),
    warning("sqlite", "old " + "and rusty " * 12, "newer"),
    problem("run.json", "hostile \x1b[2J\u202e name", "none\nbut this", ExitCode.UNAVAILABLE),
]


@pytest.fixture
def doctor(capsys, monkeypatch):
    """The verb, run on made-up findings or on what there is; returns code, stdout and stderr."""

    def call(*arguments, findings=None):
        if findings is not None:
            made = plan.Plan((Check("made up", lambda: findings),), ())
            monkeypatch.setattr(plan, "plan_for", lambda *_, **__: made)
        with pytest.raises(SystemExit) as caught:
            main(["doctor", *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


def test_a_line_a_finding_its_remedy_below_and_the_sum(doctor):
    code, out, err = doctor(findings=FOUND)
    assert (code, err) == (69, "")
    assert out.splitlines() == [
        "ok       python    3.11",
        "warning  sqlite    old" + " and rusty" * 12,
        "                   remedy: newer",
        r"problem  run.json  hostile \x1b[2J\u202e name",
        r"                   remedy: none\nbut this",
        "",
        "1 ok, 1 warning, 1 problem",
    ]


def test_the_sum_counts(doctor):
    assert doctor(findings=FOUND * 2)[1].endswith("\n2 ok, 2 warnings, 2 problems\n")
    code, out, _ = doctor(findings=FOUND[:1])
    assert (code, out.splitlines()[-1]) == (0, "1 ok, 0 warnings, 0 problems")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_and_lines_that_fit(doctor, monkeypatch, no_color, coloured):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((60, 24)))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, out, _ = doctor(findings=FOUND)
    assert ("\x1b[1;31mproblem\x1b[0m  run.json" in out) is coloured
    assert ("\x1b" in out) is coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", out).splitlines()
    assert max(map(len, plain)) <= 60
    assert plain[2].startswith(" " * 19 + "rusty") or plain[2].startswith(" " * 19 + "and")


def test_as_json(doctor):
    code, out, err = doctor("--json", findings=FOUND)
    assert (code, err) == (69, "")
    report = json.loads(out)
    assert report["ok"] is False
    assert report["findings"][0] == {"check": "python", "level": "ok", "seen": "3.11", "remedy": None}
    assert report["findings"][2]["seen"] == "hostile \x1b[2J\u202e name"
    assert json.loads(doctor("--json", findings=FOUND[:2])[1])["ok"] is True


def test_here_and_now(doctor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = doctor("--json")
    assert (code, err) == (0, "")
    checks = [finding["check"] for finding in json.loads(out)["findings"]]
    assert {"python", "sqlite", "file system", "open files", "provider"} <= set(checks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["none.yaml", "127.0.0.1:9001"])
def test_wrong_usage_is_one_line_and_2(doctor, target):
    code, out, err = doctor("--json", target)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
