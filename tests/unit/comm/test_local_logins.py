from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streaming_queue.comm import local_logins
from streaming_queue.comm.local_logins import entry, find
from streaming_queue.errors import ConfigError


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_is_kept_is_found_by_host_and_port_until_it_is_removed():
    kept = entry("127.0.0.1", 4222, {"ask": "s3cret"})
    kept.write()
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert find("127.0.0.1", 4222) == {"ask": "s3cret"}
    assert find("127.0.0.1", 4223) == find("::1", 4222) == {}
    kept.remove()
    kept.remove()
    assert find("127.0.0.1", 4222) == {}


def test_the_entry_of_another_server_in_the_same_place_stays():
    first, second = (entry("127.0.0.1", 4222, {"ask": password}) for password in ("one", "two"))
    first.write()
    second.write()
    first.remove()
    assert find("127.0.0.1", 4222) == {"ask": "two"}


def test_an_entry_counts_as_long_as_its_process_lives(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", gone)
        stale, forgotten = (entry("127.0.0.1", port, {"ask": "s3cret"}) for port in (4222, 4223))
    stale.write()
    forgotten.path.write_bytes(forgotten.content)
    forgotten.path.chmod(0o600)
    assert find("127.0.0.1", 4222) == {}
    assert not stale.path.exists()
    entry("127.0.0.1", 4224, {}).write()
    assert [path.name for path in stale.path.parent.iterdir()] == ["127.0.0.1:4224"]


def test_a_relay_has_the_logins_that_its_server_has_now():
    assert local_logins.relay("127.0.0.1", 4222, 5000) is None
    entry("127.0.0.1", 4222, {"ask": "one"}).write()
    relay = local_logins.relay("127.0.0.1", 4222, 5000)
    assert relay is not None
    assert find("127.0.0.1", 5000) == {"ask": "one"}
    entry("127.0.0.1", 4222, {"ask": "two"}).write()
    assert find("127.0.0.1", 5000) == {"ask": "two"}
    relay.remove()
    assert find("127.0.0.1", 5000) == {}


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"pid": "x"})])
def test_what_is_no_entry_is_told_with_its_path(content: str):
    kept = entry("127.0.0.1", 4222, {})
    kept.write()
    kept.path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        find("127.0.0.1", 4222)
    assert str(kept.path) in str(caught.value)


def test_an_entry_that_others_may_read_is_refused():
    kept = entry("127.0.0.1", 4222, {"ask": "s3cret"})
    kept.write()
    kept.path.chmod(0o644)
    with pytest.raises(ConfigError):
        find("127.0.0.1", 4222)
