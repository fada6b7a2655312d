"""A generated package as its author has it: written, installed, held to the contract, run; nothing in it is edited."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugin.environment import Environment

pytestmark = [pytest.mark.xdist_group("a generated package"), pytest.mark.timeout(180)]


@dataclass
class Author:
    """Somebody who has just done what `stq protocol new` told."""

    environment: Environment
    directory: Path
    told: str

    def run(self, command: str) -> str:
        done = self.environment.run(command, self.directory)
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Author:
    directory = tmp_path_factory.mktemp("author")
    author = Author(Environment.create(directory / "venv"), directory, "")
    author.told = author.run("stq protocol new my_proto")
    author.run("pip install -e 'my-proto[dev]'")
    return author


def test_what_is_told_is_how_to_go_on(author: Author) -> None:
    commands = [line.strip() for line in author.told.splitlines() if line.startswith("  ")]
    assert commands[:3] == ["pip install -e 'my-proto[dev]'", "stq protocol test my-proto", "stq run -p my-proto -n 20"]
    places = [place.rpartition(":") for place in commands[3:]]
    assert len(places) == 4
    for path, _, number in places:
        assert "# TODO: " in (author.directory / path).read_text().splitlines()[int(number) - 1]


def test_it_is_a_protocol_like_any_other(author: Author) -> None:
    (entry,) = (each for each in json.loads(author.run("stq protocol list --json")) if each["name"] == "my-proto")
    assert entry["installed"]
    assert entry["class"] == "my_proto.comm:MyProtoCommBackend"
    assert entry["capabilities"] == ["host", "streaming", "cancel", "metadata"]
    assert entry["schemes"] == ["my-proto"]
    assert entry["problem"] is None


@pytest.mark.interop
def test_it_is_held_to_the_whole_contract(author: Author) -> None:
    report = json.loads(author.run("stq protocol test my-proto --json"))
    assert {line["id"] for line in report["lines"] if line["outcome"] != "held"} == {"claim-2", "claim-3"}


@pytest.mark.parametrize("mode", ["inprocess", "process"])
def test_a_whole_run_over_it(author: Author, tmp_path: Path, mode: str) -> None:
    author.run(f"stq run -p my-proto -n 20 -o {tmp_path}/run -s mock.latency_ms=1 -s qa.worker.mode={mode}")
    rows = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    for row in rows:
        assert (row["status"], row["protocol"], row["attempts"]) == ("success", "my-proto", 1)
        assert row["llm_ms"] is not None
        assert row["protocol_ms"] is not None
