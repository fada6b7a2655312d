from pathlib import Path

import pytest

from streaming_queue.errors import ConfigError
from streaming_queue.private_files import read_private, state_folder, write_private


def test_the_state_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "streaming-queue"


@pytest.mark.parametrize("given", ["", "relative/folder"])
def test_without_an_absolute_folder_it_is_the_users_own(monkeypatch, tmp_path, given):
    monkeypatch.setenv("XDG_STATE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / ".local/state/streaming-queue"


def test_what_is_written_is_read_and_private(tmp_path):
    path = tmp_path / "new" / "folder" / "key"
    assert write_private(path, b"one")
    assert read_private(path) == b"one"
    assert [part.stat().st_mode & 0o777 for part in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]
    assert write_private(path, b"two")
    assert read_private(path) == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_the_first_of_two_writers_is_kept(tmp_path):
    path = tmp_path / "key"
    assert write_private(path, b"first", replace=False)
    assert not write_private(path, b"second", replace=False)
    assert read_private(path) == b"first"


def test_what_is_not_there_is_none(tmp_path):
    assert read_private(tmp_path / "nothing") is None
    assert read_private(tmp_path / "nothing" / "key") is None


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o666])
def test_a_file_open_to_others_is_refused(tmp_path, mode):
    path = tmp_path / "key"
    path.write_bytes(b"known to all")
    path.chmod(mode)
    with pytest.raises(ConfigError):
        read_private(path)


def test_a_link_is_refused(tmp_path):
    (tmp_path / "target").write_bytes(b"another file")
    (tmp_path / "target").chmod(0o600)
    (tmp_path / "key").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigError):
        read_private(tmp_path / "key")


def test_a_folder_in_the_way_is_an_error(tmp_path):
    (tmp_path / "key").mkdir()
    for touch in (read_private, lambda path: write_private(path, b"new")):
        with pytest.raises(ConfigError):
            touch(tmp_path / "key")


def test_a_folder_that_cannot_be_made_is_an_error():
    with pytest.raises(ConfigError):
        write_private(Path("/proc/streaming-queue/key"), b"new")
