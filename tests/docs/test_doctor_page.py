"""docs/doctor.md shows what the command prints, in form, and names every check and exit code."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from streaming_queue.cli.doctor import page
from streaming_queue.doctor import finding
from streaming_queue.doctor.agent import SKEW_S
from streaming_queue.doctor.environment import OLDEST_SQLITE, SAFE_SQLITE
from streaming_queue.doctor.examination import STEP_S, examine
from streaming_queue.doctor.limits import BASE_FILES
from streaming_queue.doctor.plan import plan_for
from streaming_queue.queue.inspection import MOST_COPIED_BYTES

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text("utf-8")
(SAMPLE,) = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
LINE = re.compile(r"(ok|warning|problem) +(\S+(?: \S+)*)  +\S")


@pytest.fixture
def findings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return asyncio.run(examine(plan_for(None, None).checks))


def test_the_sample_has_the_checks_of_the_command_in_their_order(findings):
    shown = [match.groups() for line in SAMPLE.splitlines() if (match := LINE.match(line))]
    assert [check for _, check in shown] == [found.check for found in findings]
    counts = ", ".join(
        f"{sum(level == wanted for level, _ in shown)} {word}"
        for wanted, word in (("ok", "ok"), ("warning", "warnings"), ("problem", "problems"))
    )
    assert SAMPLE.splitlines()[-1] == counts


def test_the_sample_has_the_commands_form(findings):
    """The same columns: what is seen begins below what is seen, remedies too."""
    shown = SAMPLE.splitlines()
    first = page(findings)[0]
    place = "".join(piece if isinstance(piece, str) else piece.text for piece in first).index(findings[0].seen[:5])
    assert all(line[:place].isspace() or LINE.match(line[: place + 1]) for line in shown[:-2])
    assert not shown[-2]
    assert f"{' ' * place}remedy: " in SAMPLE


@pytest.mark.parametrize(
    "check",
    [
        *("sqlite", "clock", "variables", "protocols", "openai", "file system", "disk space", "writable", "output"),
        *("questions", "ports", "open files", "provider", "address", "agent", "agent clock"),
        *("run.json", "queue.db", "owner", "results.jsonl", "next"),
    ],
)
def test_every_check_that_needs_words_has_them(check):
    assert re.search(rf"^- (`[\w. ]+`, )*`{re.escape(check)}`(, `[\w. ]+`)*: ", PAGE, re.MULTILINE)


def test_the_exit_codes_are_those_of_a_verdict():
    codes = set(map(int, re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)))
    assert codes == {0, *map(int, finding.PRECEDENCE)}
    assert [int(code) for code in finding.PRECEDENCE] == [77, 2, 69, 1]


def test_the_figures_are_true():
    for version in (OLDEST_SQLITE, SAFE_SQLITE):
        assert ".".join(map(str, version)).removesuffix(".0") in PAGE
    assert f"need: {BASE_FILES}, one a worker" in PAGE
    assert (STEP_S, SKEW_S, MOST_COPIED_BYTES) == (3.0, 5.0, 256 * 1024**2)
