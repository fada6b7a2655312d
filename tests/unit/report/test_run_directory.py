from __future__ import annotations

import json
import os
import re

import pytest

from streaming_queue.errors import ConfigError, DiskFullError
from streaming_queue.report import run_directory
from streaming_queue.report.run_directory import FORMAT, RunDirectory

FACTS = {
    "config": {"qa": {"worker": {"count": 4}}},
    "seed": 7,
    "source": "questions.jsonl",
    "provider": {"name": "mock", "model": None, "mock": True, "reason": "no key"},
}


def names(path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_new_directory_holds_the_manifest_and_nothing_else(tmp_path):
    directory = RunDirectory.create(tmp_path / "deep" / "run", "a2a", FACTS)
    assert names(directory.path) == ["run.json"]
    manifest = json.loads(directory.manifest_path.read_text())
    assert manifest == directory.manifest
    assert manifest | FACTS == manifest
    assert (manifest["format"], manifest["state"], manifest["protocol"], manifest["summary"]) == (
        FORMAT,
        "running",
        "a2a",
        None,
    )
    assert set(manifest["versions"]) == {"python", "streaming_queue", "sqlite", "platform"}


def test_the_paths_are_the_ones_promised(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "a2a", {})
    names = [directory.queue_path, directory.manifest_path, directory.results_jsonl, directory.results_json]
    assert [path.name for path in names] == ["queue.db", "run.json", "results.jsonl", "results.json"]
    assert {path.parent for path in names} == {directory.path}


def test_the_default_name_has_time_and_protocol_and_is_unique(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Clock(run_directory.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 3, 4, 5, 6, 7, tzinfo=tz)

    monkeypatch.setattr(run_directory, "datetime", Clock)
    made = [RunDirectory.create(None, "a2a", {}) for _ in range(3)]
    assert [str(directory.path) for directory in made] == [
        f"runs/20260304-050607-a2a{suffix}" for suffix in ("", "-2", "-3")
    ]
    assert len({directory.run_id for directory in made}) == 3


@pytest.mark.parametrize("protocol", ["../../etc/passwd", "a/b", "..", "", "a\x00b", "x" * 500, "-rf"])
def test_a_protocol_never_becomes_a_path(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory.create(None, protocol, {})
    assert directory.path.parent.resolve() == tmp_path / "runs"
    assert re.fullmatch(r"\d{8}-\d{6}-[A-Za-z0-9_][A-Za-z0-9_-]{0,39}", directory.path.name)
    assert directory.manifest["protocol"] == protocol


@pytest.mark.parametrize(
    ("state", "words"),
    [("done", "finished run"), ("running", "not finished"), ("stopped", "not finished"), ("failed", "not finished")],
)
def test_a_directory_with_a_run_is_refused_with_the_way_out(tmp_path, state, words):
    directory = RunDirectory.create(tmp_path / "run", "a2a", {})
    directory.update(state=state)
    directory.queue_path.touch()
    before = directory.manifest_path.read_bytes()
    with pytest.raises(ConfigError, match=words) as caught:
        RunDirectory.create(directory.path, "a2a", {})
    assert f"`stq resume {directory.path}`" in str(caught.value)
    assert "choose another -o" in str(caught.value)
    assert directory.manifest_path.read_bytes() == before


def test_a_queue_without_a_manifest_is_refused(tmp_path):
    (tmp_path / "queue.db").touch()
    with pytest.raises(ConfigError, match=r"no run\.json.*choose another -o"):
        RunDirectory.create(tmp_path, "a2a", {})


def test_a_directory_without_a_queue_is_started_anew_and_loses_nothing(tmp_path):
    first = RunDirectory.create(tmp_path, "a2a", {})
    first.results_json.write_text("{}")
    first.results_jsonl.write_text("{}\n")
    second = RunDirectory.create(tmp_path, "acp", {})
    assert second.run_id != first.run_id
    assert names(tmp_path) == ["results.json.previous", "results.jsonl.previous", "run.json"]


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file; -o takes a directory"):
        RunDirectory.create(tmp_path / "file", "a2a", {})
    with pytest.raises(ConfigError, match="cannot be written"):
        RunDirectory.create(tmp_path / "file" / "below", "a2a", {})


def test_open_gives_back_what_create_and_update_wrote(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "a2a", FACTS)
    directory.update(state="stopped", summary={"answered": 3})
    again = RunDirectory.open(str(tmp_path / "run"))
    assert again.manifest == directory.manifest
    assert again.manifest["summary"] == {"answered": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"it has no run\.json"),
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\x00" * 4096, "damaged"),
        (b"[]", "damaged"),
        (b"{}", "no format version"),
        (b'{"format": "1"}', "no format version"),
        (b'{"format": 1, "run_id": "r", "state": "done"}', "protocol is missing"),
        (b'{"format": 999}', "format 999 is newer than this program's"),
    ],
)
def test_open_says_what_is_wrong_with_a_manifest(tmp_path, content, message):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        RunDirectory.open(tmp_path)


def test_open_says_that_there_is_no_directory(tmp_path):
    with pytest.raises(ConfigError, match="no such directory"):
        RunDirectory.open(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not the directory of a run"):
        RunDirectory.open(tmp_path / "file")


def test_a_failed_update_leaves_the_old_manifest(tmp_path, monkeypatch):
    directory = RunDirectory.create(tmp_path / "run", "a2a", {})
    before = directory.manifest_path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        directory.update(state="done")
    assert directory.manifest_path.read_bytes() == before
    assert directory.manifest["state"] == "running"
    assert names(directory.path) == ["run.json"]


def test_a_state_that_does_not_exist_is_refused(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "a2a", {})
    with pytest.raises(ConfigError, match="not one of running, done, stopped, failed"):
        directory.update(state="finished")


def test_a_leftover_of_a_killed_update_does_not_matter(tmp_path):
    (tmp_path / ".run.json.tmp").write_bytes(b"half a mani")
    RunDirectory.create(tmp_path, "a2a", {})
    assert names(tmp_path) == ["run.json"]


def test_what_a_configuration_may_hold_is_written(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "a2a", {"config": {"path": tmp_path, "name": "\ud800"}})
    assert RunDirectory.open(tmp_path / "run").manifest["config"] == {"path": str(tmp_path), "name": "?"}
    assert directory.run_id
