"""What becomes of the mark and of hidden settings when a run is begun, or goes on by one's own settings."""

from __future__ import annotations

import json

import pytest

from streaming_queue.config import Config
from streaming_queue.config.trust import effects, is_marked
from streaming_queue.core.run_start import open_directory
from streaming_queue.errors import ConfigError
from streaming_queue.private_files import state_folder
from streaming_queue.report.run_directory import RunDirectory


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def settings(tmp_path, address="stdio:touch X", *, resume=False):
    output = {"dir": str(tmp_path / "run"), "resume": resume}
    return Config.of({"protocol": "mcp", "qa": {"worker": {"endpoints": [address]}}, "output": output})


def test_a_resume_by_other_settings_follows_nothing_of_the_directory(tmp_path):
    """As `stq serve coordinator --resume -o DIR` does."""
    directory = open_directory(settings(tmp_path))
    assert is_marked(effects(directory.manifest["config"]), directory.manifest["mark"])
    directory.manifest["config"]["qa"]["worker"]["endpoints"] = ["stdio:touch Y"]
    directory.manifest |= {"provider": {"name": "evil:P"}, "source": "/etc/passwd", "protocol": "evil:Backend"}
    directory.update()
    again = open_directory(settings(tmp_path, "http://h/mcp", resume=True))
    assert "mark" not in again.manifest
    assert again.manifest["config"]["qa"]["worker"]["endpoints"] == ["http://h/mcp"]
    marked = open_directory(settings(tmp_path, resume=True))
    assert is_marked(effects(marked.manifest["config"]), marked.manifest["mark"])


def test_what_is_written_hides_what_is_kept(tmp_path):
    open_directory(settings(tmp_path, "stdio:x --token s3cret"))
    (file,) = (state_folder() / "runs").iterdir()
    assert "s3cret" in file.read_text()
    assert "s3cret" not in (tmp_path / "run" / "run.json").read_text()
    again = RunDirectory.open(tmp_path / "run").manifest
    assert json.loads(json.dumps(again)) == again
    open_directory(settings(tmp_path, resume=True))
    assert list((state_folder() / "runs").iterdir()) == []


def test_a_run_that_cannot_be_marked_does_not_begin(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="XDG_STATE_HOME"):
        open_directory(settings(tmp_path))
    assert not (tmp_path / "run").exists()
