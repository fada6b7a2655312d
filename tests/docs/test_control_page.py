"""docs/control.md names what there is: the commands, what they take, the keys of their answers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from streaming_queue.config import Config
from streaming_queue.control.base import LARGEST_PAGE, PAGE
from streaming_queue.control.commands import COMMANDS
from streaming_queue.control.open_control import PATIENCE_S
from streaming_queue.control.record import REASONS
from streaming_queue.control.stopped import StoppedRun
from streaming_queue.report.run_directory import RunDirectory

TEXT = (Path(__file__).parents[2] / "docs" / "control.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[set[str]]]:
    """The names in each cell of the table under `heading`."""
    table = TEXT.partition(heading)[2].partition("\n\n")[0]
    return [[set(re.findall(r"`(\w+)`", cell)) for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_the_keys_told_are_the_keys_of_the_object(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "a2a", {"config": Config().public()})
    told = asyncio.run(StoppedRun(directory).stats())
    table = rows("| key | meaning |")
    assert set.union(*(names for names, _ in table)) == set(told)
    shown = {frozenset(names): meaning for names, meaning in table}
    for key in ("counts", "stats", "intake"):
        assert set(told[key]) <= shown[frozenset({key})]


def test_the_commands_told_are_those_of_the_endpoint():
    told = {name: takes for names, takes, _ in rows("| command | takes | result |") for name in names}
    assert told == {name: set(arguments) for name, arguments in COMMANDS.items()}


def test_the_figures_and_the_reasons_are_true():
    assert f"`--limit` ({PAGE}, up to {LARGEST_PAGE})" in TEXT
    assert f"waits up to {PATIENCE_S:g} s" in TEXT
    assert set(re.findall(r"`(\w+Error)`", TEXT)) <= REASONS
