from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from streaming_queue.doctor import disk as module
from streaming_queue.doctor.disk import disk
from streaming_queue.doctor.finding import Level


@pytest.fixture
def mounted(tmp_path):
    """`mounted(kind)`: a mountinfo in which `tmp_path / "mnt"` is of that kind."""
    (tmp_path / "mnt").mkdir()

    def make(kind):
        path = tmp_path / "mountinfo"
        path.write_text(
            f"1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n2 1 0:40 / {tmp_path}/mnt rw,relatime - {kind} server:/x rw\n"
        )
        return path

    return make


def levels(findings):
    return {finding.check: finding.level for finding in findings}


def test_a_local_disk(tmp_path, mounted):
    findings = disk(tmp_path / "mnt", mounted("xfs"))
    assert levels(findings) == dict.fromkeys(["file system", "disk space", "writable"], Level.OK)
    assert findings[0].seen == f"{tmp_path / 'mnt'}: xfs"


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path, mounted, kind):
    finding, *_ = disk(tmp_path / "mnt" / "runs", mounted(kind))
    assert (finding.level, finding.code) == (Level.PROBLEM, 2)
    assert f"network file system ({kind})" in finding.seen


def test_memory_does_not_keep_a_run(tmp_path, mounted):
    finding, *_ = disk(tmp_path / "mnt", mounted("tmpfs"))
    assert finding.level is Level.WARNING
    assert "does not survive a restart" in finding.seen


def test_where_mounts_are_not_known(tmp_path):
    finding, *_ = disk(tmp_path, tmp_path / "none")
    assert finding.level is Level.OK
    assert "unknown" in finding.seen


def test_a_directory_that_does_not_exist_yet_is_where_it_would_be_made(tmp_path, mounted):
    before = list(tmp_path.rglob("*"))
    findings = disk(tmp_path / "mnt" / "a" / "b", mounted("ext4"))
    assert findings[0].seen == f"{tmp_path / 'mnt'}: ext4"
    assert {*tmp_path.rglob("*")} - {*before} == {tmp_path / "mountinfo"}


def test_a_link_is_followed(tmp_path, mounted):
    (tmp_path / "link").symlink_to(tmp_path / "mnt")
    finding, *_ = disk(tmp_path / "link", mounted("nfs"))
    assert finding.level is Level.PROBLEM


@pytest.mark.parametrize(
    ("free", "level"), [(10 * 1024**3, Level.OK), (100 * 1024**2, Level.WARNING), (1024**2, Level.PROBLEM)]
)
def test_room(tmp_path, monkeypatch, free, level):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert levels(disk(tmp_path))["disk space"] is level


def test_a_file_is_in_the_way(tmp_path):
    (tmp_path / "runs").touch()
    assert levels(disk(tmp_path / "runs"))["writable"] is Level.PROBLEM


def test_a_directory_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "access", lambda path, mode: mode != os.W_OK | os.X_OK)
    assert levels(disk(tmp_path))["writable"] is Level.PROBLEM
