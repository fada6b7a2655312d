"""docs/repair.md shows what the command prints, figure by figure, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest

from streaming_queue.cli import main
from streaming_queue.doctor.repair import Repaired
from streaming_queue.messages import Question, Result
from streaming_queue.queue.sqlite import SQLiteQueue

PAGE = (Path(__file__).parents[2] / "docs" / "repair.md").read_text("utf-8")
(SHOWN,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
FIGURES = re.findall(r"^\| (`.*?) \| ", PAGE, re.MULTILINE)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`command(words)` is the exit code and what is printed, beside a run of 120 answers."""

    async def fill():
        queue = await SQLiteQueue.open("run/queue.db")
        await queue.put([Question(f"text {number}", f"q{number}") for number in range(120)])
        for lease in await queue.lease(120):
            await queue.commit(lease, Result("answer", "w", "inproc", 0.1))
        await queue.close()

    def command(words):
        with pytest.raises(SystemExit) as ended:
            main(words.split())
        return ended.value.code, capsys.readouterr().out

    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    asyncio.run(fill())
    return command


def lose_twenty():
    with closing(sqlite3.connect("run/queue.db")) as database:
        database.execute("DELETE FROM result WHERE seq > 100")
        database.commit()


def test_the_command_prints_what_is_shown(command):
    asked, *shown = SHOWN.splitlines()
    assert asked == "$ stq doctor run --repair"
    lose_twenty()
    code, printed = command("repair run")
    assert (code, printed.splitlines()) == (3, shown)
    assert command("repair run")[0] == 2, "the new directory has files now"


def test_a_whole_run_is_0_and_json_has_the_figures(command):
    code, printed = command("repair run -o new --json")
    told = json.loads(printed)
    assert (code, told["ok"], told["answered"]) == (0, True, 120)
    assert list(told) == ["ok", "directory", *(field.name for field in fields(Repaired))]
    named = re.findall(r"`(\w+)`", " ".join(FIGURES))
    assert set(named) == {field.name for field in fields(Repaired)}


def test_the_exit_codes_are_written_down(command):
    Path("run/queue.db").unlink()
    assert command("repair run")[0] == 2
    with closing(sqlite3.connect("run/queue.db")) as database:
        database.execute("CREATE TABLE theirs(x)")
    assert command("repair run")[0] == 1
    assert set(re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)) == {"0", "1", "2", "3"}
