"""A source that is changed between two processes of a run."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from unit.core.test_run import Stage, settings

from streaming_queue.config import Config
from streaming_queue.control.following import RowFollower
from streaming_queue.errors import ConfigError
from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.messages import Question
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

Edit = Callable[[list[str]], list[str]]


def line(name: str | None, text: str) -> str:
    return json.dumps({"q": text} if name is None else {"id": name, "q": text})


OLD = [line(f"q{n}", f"question {n}") for n in range(40)]


def resumed(tmp_path: Path, choice: str = "refuse", **coordinator: Any) -> Config:
    return settings(tmp_path, coordinator=coordinator, output={"resume": True, "source_changed": choice})


async def begun(tmp_path: Path, lines: list[str], limit: int | None = 25) -> Stage:
    """A run that has read the first `limit` of `lines`."""
    (tmp_path / "questions.jsonl").write_text("".join(f"{line}\n" for line in lines))
    stage = Stage(settings(tmp_path, coordinator={"limit": limit}))
    await stage.run()
    return stage


def rewrite(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "questions.jsonl").write_text("".join(f"{line}\n" for line in lines))


def rows(path: Path) -> dict[str, str]:
    return {
        row["question"]: row["answer"] for row in map(json.loads, (path / "results.jsonl").read_bytes().splitlines())
    }


@pytest.mark.parametrize("limit", [25, None])
async def test_lines_that_were_appended_are_asked(tmp_path: Path, limit: int | None) -> None:
    await begun(tmp_path, OLD, limit)
    rewrite(tmp_path, [*OLD, line("new", "new?")])
    stage = Stage(resumed(tmp_path))
    await stage.run()
    assert stage.asked == [f"q{n}" for n in range(limit or 40, 40)] + ["new"]
    assert len(rows(tmp_path / "run")) == 41
    assert stage.manifest()["state"] == "done"
    again = Stage(resumed(tmp_path))
    await again.run()
    assert again.asked == []


@pytest.mark.parametrize(
    ("edit", "at"),
    [
        (lambda lines: [line("q0", "another"), *lines[1:]], 1),
        (lambda lines: [*lines[:10], line("x", "inserted"), *lines[10:]], 11),
        (lambda lines: lines[:7] + lines[8:], 8),
        (lambda lines: [lines[24], *lines[1:24], lines[0], *lines[25:]], 1),
        (lambda lines: lines[:20], 21),
        (lambda lines: [line(f"p{n}", f"other {n}") for n in range(300)], 1),
    ],
    ids=["edited", "inserted", "deleted", "swapped", "cut", "rewritten"],
)
async def test_changed_lines_are_refused_before_anything_is_asked(tmp_path: Path, edit: Edit, at: int) -> None:
    before = (await begun(tmp_path, OLD)).manifest()
    rewrite(tmp_path, edit(OLD))
    stage = Stage(resumed(tmp_path))
    with pytest.raises(ConfigError) as caught:
        await stage.run()
    assert exit_code(caught.value) == ExitCode.USAGE
    assert f"line {at} " in str(caught.value)
    assert stage.asked == []
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == before
    rewrite(tmp_path, OLD)
    await Stage(resumed(tmp_path)).run()
    assert len(rows(tmp_path / "run")) == 40


async def test_a_change_behind_what_was_read_is_no_change(tmp_path: Path) -> None:
    await begun(tmp_path, OLD)
    rewrite(tmp_path, [*OLD[:25], line("other", "other?")])
    stage = Stage(resumed(tmp_path))
    await stage.run()
    assert stage.asked == ["other"]


async def test_append_keeps_the_rows_and_asks_what_is_new(tmp_path: Path) -> None:
    old = [line(None, f"question {n}") for n in range(20)]  # without ids, as many sets are
    await begun(tmp_path, old, None)
    rewrite(tmp_path, [*old[:5], line(None, "inserted?"), *old[6:], line(None, "appended?")])
    stage = Stage(resumed(tmp_path, "append"))
    await stage.run()
    assert len(stage.asked) == 2
    assert set(rows(tmp_path / "run")) == {*(f"question {n}" for n in range(20)), "inserted?", "appended?"}
    again = Stage(resumed(tmp_path))
    await again.run()
    assert again.asked == []


async def test_append_goes_on_after_a_stop_in_its_middle(tmp_path: Path) -> None:
    old = [line(None, f"question {n}") for n in range(20)]
    await begun(tmp_path, old, None)
    rewrite(tmp_path, [line(None, "first?"), *old, line(None, "last?")])
    await Stage(resumed(tmp_path, "append", limit=25)).run()  # the limit counts lines that are read again
    stage = Stage(resumed(tmp_path))
    await stage.run()
    assert len(rows(tmp_path / "run")) == 22


async def test_restart_puts_the_old_rows_aside(tmp_path: Path) -> None:
    await begun(tmp_path, OLD)
    old = rows(tmp_path / "run")
    new = [line("q0", "another"), *OLD[1:]]
    rewrite(tmp_path, new)
    stage = Stage(resumed(tmp_path, "restart"))
    await stage.run()
    assert len(stage.asked) == 40
    assert "another" in rows(tmp_path / "run")
    (aside,) = (tmp_path / "run").glob("before-*")
    assert rows(aside) == old
    assert await asyncio.to_thread(_recorded, aside) == 25
    again = Stage(resumed(tmp_path, "restart"))  # nothing is changed now
    await again.run()
    assert again.asked == []
    assert again.manifest()["config"]["output"]["source_changed"] == "refuse"


async def test_a_restart_that_dies_before_the_queue_is_moved_changes_no_row(tmp_path: Path, monkeypatch: Any) -> None:
    await begun(tmp_path, OLD)
    old = rows(tmp_path / "run")
    rewrite(tmp_path, OLD[1:])
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == "queue.db":
            raise OSError(5, "Input/output error", str(path))
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(Exception, match=r"queue\.db"):
            await Stage(resumed(tmp_path, "restart")).run()
    rewrite(tmp_path, OLD)
    stage = Stage(resumed(tmp_path))
    await stage.run()
    assert stage.asked == [f"q{n}" for n in range(25, 40)]
    assert old.items() <= rows(tmp_path / "run").items()


async def test_a_run_without_checks_reads_on_as_before(tmp_path: Path) -> None:
    await begun(tmp_path, OLD)
    await asyncio.to_thread(_forget_checks, tmp_path / "run" / "queue.db")
    stage = Stage(resumed(tmp_path))
    await stage.run()
    assert stage.asked == [f"q{n}" for n in range(25, 40)]


def _recorded(run: Path) -> int:
    return sum(map(len, RowFollower(RunDirectory.open(run)).recorded()))


def _forget_checks(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM source_check")


async def test_a_pipe_keeps_no_checks(tmp_path: Path) -> None:
    stage = Stage(settings(tmp_path))
    await stage.run()
    queue = await SQLiteQueue.open(tmp_path / "run" / "queue.db")
    assert len(await queue.source_checks()) == 40 * 4
    await queue.put([Question("more?")])
    assert len(await queue.source_checks()) == 40 * 4
    await queue.close()
