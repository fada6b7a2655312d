"""The command line as people meet it: sections, whole lines, an example and a page for each command."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from unit.control.runs import new_run

from streaming_queue import cli

ROOT = Path(__file__).parents[3]
VISIBLE = {
    "run", "ask", "runs", "top", "results", "pause", "resume", "stop", "dlq", "workers", "serve", "doctor", "config",
    "protocol", "failstorm",
}  # fmt: skip
HIDDEN = {"status", "dispatch", "attach", "queue", "repair", "protocols", "anp"}


def each(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from each(child, (*path, name))


COMMANDS = dict(each(typer.main.get_command(cli.app)))


def help_of(path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["stq"])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # `python -m pytest` would be the program
    with pytest.raises(SystemExit):
        cli.main([*path, "--help"])
    return capsys.readouterr().out


def test_help_shows_what_stays_and_hides_the_older_names() -> None:
    top_level = {path[0]: command for path, command in COMMANDS.items() if len(path) == 1}
    assert {name for name, command in top_level.items() if not command.hidden} == VISIBLE
    assert {name for name, command in top_level.items() if command.hidden} == HIDDEN


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_line_of_help_is_cut_or_wide(path, capsys, monkeypatch) -> None:
    shown = help_of(path, capsys, monkeypatch)
    assert not re.search(r"\w\.\.\.\n", shown.replace("[ARGS]...", ""))
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_begins_with_the_usage_of_its_command(path, capsys, monkeypatch) -> None:
    usage = help_of(path, capsys, monkeypatch).splitlines()[0]
    assert usage.startswith(" ".join(["Usage: stq", *path]))
    assert "[OPTIONS]" in usage


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_ends_with_an_example_that_parses_and_a_page_that_exists(path, capsys, monkeypatch) -> None:
    shown = " ".join(help_of(path, capsys, monkeypatch).split())
    example, page = re.search(r"Example: (stq .*) Documentation: (\S+)$", shown).groups()
    assert (ROOT / page).is_file()
    words = shlex.split(example.partition(" > ")[0])[1:]
    command = COMMANDS[()]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("stq", words)  # raises on what it does not know


@pytest.mark.parametrize(
    ("complete", "typed", "found"),
    [
        ("protocols", "g", ["grpc"]),
        ("keys", "scheduler.max", ["scheduler.max_attempts="]),
        ("reasons", "Auth", ["AuthError"]),
    ],
)
def test_a_shell_completes_names(complete, typed, found) -> None:
    from streaming_queue.cli import completion

    assert getattr(completion, complete)(typed) == found


@pytest.fixture
def first_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_run(tmp_path / "runs" / "first")


@pytest.mark.usefixtures("first_run")
@pytest.mark.parametrize(
    ("path", "parameter", "typed", "found"),
    [
        ("failstorm", "protocol", "gr", "grpc"),
        ("workers add", "protocol", "gr", "grpc"),
        ("serve worker", "pool_protocol", "gr", "grpc"),
        ("doctor", "target", "runs/f", "runs/first"),
        ("repair", "directory", "runs/f", "runs/first"),
        ("run", "sets", "scheduler.max", "scheduler.max_attempts="),
    ],
)
def test_each_command_completes_what_it_takes(path, parameter, typed, found) -> None:
    command = COMMANDS[tuple(path.split())]
    taken = {each.name: each for each in command.params}[parameter]
    completed = taken.shell_complete(command.make_context("stq", [], resilient_parsing=True), typed)
    assert [item.value for item in completed] == [found]


def test_a_shell_completes_runs(tmp_path, monkeypatch) -> None:
    from streaming_queue.cli.completion import runs

    monkeypatch.chdir(tmp_path)
    assert runs("") == []
    for name in ("runs/first", "runs/second", "others/third"):
        new_run(tmp_path / name)
    (tmp_path / "runs" / "no run").mkdir()
    assert runs("") == ["runs/first", "runs/second"]
    assert runs("runs/s") == ["runs/second"]
    assert runs("others/") == ["others/third"]
