"""Settings that act on this machine, and the mark over them."""

from __future__ import annotations

import json
import os

import pytest

from streaming_queue.config import Config, resume_config
from streaming_queue.config.trust import UnmarkedError, effects, is_marked, mark_of
from streaming_queue.errors import ConfigError
from streaming_queue.private_files import state_folder

STDIO = {"protocol": "mcp", "qa": {"worker": {"endpoints": ["stdio:touch X"]}}}


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def written(settings):
    """What `run.json` has of a run with these settings."""
    return json.loads(json.dumps(Config.of(settings).public()))


def goes_on(settings, **more):
    return resume_config(settings, "run", environ={}, **more)


@pytest.mark.parametrize(
    ("settings", "acting"),
    [
        ({}, []),
        ({"protocol": "http", "qa": {"worker": {"endpoints": ["http://h:1"]}}}, []),
        (STDIO, [("qa.worker.endpoints[0]", "starts")]),
        ({"protocol": "evil:Backend"}, [("protocol", "imports")]),
        ({"workers": [{"protocol": "a:B"}, {"protocol": "http"}]}, [("workers[0].protocol", "imports")]),
        (
            {"workers": [{"protocol": "mcp", "endpoints": ["http://h/mcp", "stdio:x"]}]},
            [("workers[0].endpoints[1]", "starts")],
        ),
        (
            {"protocol": "auto", "workers": [{"protocol": "a:B"}, {"protocol": "http"}]},
            [("workers[0].protocol", "imports")],
        ),
        (
            {"network": {"topology": "hierarchical", "pools": {"S": {"count": 1, "protocol": "a:B"}}}},
            [("network.pools.S.protocol", "imports")],
        ),
        (
            STDIO | {"mcp": {"tool": "shell", "arguments": {"command": "reboot"}}},
            [("qa.worker.endpoints[0]", "starts"), ("mcp.tool", "passes"), ("mcp.arguments", "passes")],
        ),
        ({"protocol": "mcp", "mcp": {"tool": "ask"}, "qa": {"worker": {"endpoints": ["http://h/mcp"]}}}, []),
        (
            {"workers": [{"protocol": "mcp", "endpoints": ["stdio:x"], "options": {"tool": "shell"}}]},
            [("workers[0].endpoints[0]", "starts"), ("workers[0].options.tool", "passes")],
        ),
        ({"qa": {"coordinator": {"result_file": "r.json"}}}, [("qa.coordinator.result_file", "writes")]),
    ],
)
def test_every_setting_that_acts_needs_the_mark(settings, acting):
    config = written(settings)
    found = effects(config)
    assert [(effect.place, effect.does) for effect in found] == acting
    mark = mark_of(found)
    assert (mark is None) == (not acting) == (not state_folder().exists())
    assert goes_on(config, mark=mark)
    if acting:
        with pytest.raises(UnmarkedError) as caught:
            goes_on(config)
        assert [(effect.place, effect.does) for effect in caught.value.effects] == acting
        assert goes_on(config, trust=True)


@pytest.mark.parametrize("address", [" stdio:touch X", "STDIO:touch X", "st\tdio:touch X", "stdio :touch X"])
def test_a_command_however_it_is_spelled(address):
    assert [effect.does for effect in effects({"qa.worker.endpoints": [address]})] == ["starts"]


def test_the_key_is_made_once_and_private():
    found = effects(STDIO)
    mark = mark_of(found)
    key = state_folder() / "mark.key"
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    assert mark_of(found) == mark


@pytest.mark.parametrize("mark", [None, "", 0, True, [], {}, "0" * 64, "字", "\ud800"])
def test_what_is_no_mark(mark):
    mark_of(effects(STDIO))
    assert not is_marked(effects(STDIO), mark)


def test_a_mark_is_over_exactly_its_settings():
    mark = mark_of(effects(written(STDIO)))
    edited = written(STDIO)
    for settings in (
        {"protocol": "mcp", "qa": {"worker": {"endpoints": ["stdio:touch Y"]}}},
        {"protocol": "mcp", "qa": {"worker": {"endpoints": ["stdio:touch X", "stdio:touch X"]}}},
        {"protocol": "mcp", "workers": [{"endpoints": ["stdio:touch X"]}]},
        STDIO | {"mcp": {"tool": "shell"}},
        STDIO | {"mcp": {"environment": ["OPENAI_API_KEY"]}},
        STDIO | {"network": {"topology": "mesh"}, "qa": STDIO["qa"] | {"coordinator": {"result_file": "/r"}}},
    ):
        assert not is_marked(effects(written(settings)), mark)
    edited["mock"]["seed"] = 7
    assert is_marked(effects(edited), mark)


def test_a_mark_of_another_user_is_none(tmp_path, monkeypatch):
    mark = mark_of(effects(STDIO))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "theirs"))
    assert not is_marked(effects(STDIO), mark)
    assert not state_folder().exists()


def test_what_the_command_line_gives_is_ones_own():
    config = written(STDIO | {"qa": STDIO["qa"] | {"coordinator": {"result_file": "/r"}}})
    own = ["qa.worker.endpoints=['stdio:mine']"]
    with pytest.raises(UnmarkedError) as caught:
        goes_on(config, sets=own)
    assert [effect.place for effect in caught.value.effects] == ["qa.coordinator.result_file"]
    assert goes_on(config, sets=[*own, "qa.coordinator.result_file=null"]).qa.worker.endpoints == ("stdio:mine",)


def test_the_directory_does_not_change_the_users_own_command():
    config = written({"protocol": "mcp", "mcp": {"tool": "shell"}})
    assert goes_on(config).mcp.tool == "shell"
    with pytest.raises(UnmarkedError) as caught:
        goes_on(config, sets=["qa.worker.endpoints=['stdio:mine']"])
    assert [effect.place for effect in caught.value.effects] == ["mcp.tool"]


def test_the_list_shows_the_whole_command():
    """Also what looks like a secret: somebody must see what it would do."""
    (effect,) = effects({"qa.worker.endpoints": ["stdio:x --token $(reboot)\x1b[2J\n"]})
    assert "$(reboot)" in str(effect)
    assert str(effect).isprintable()
    (long,) = effects({"qa.worker.endpoints": ["stdio:" + "x" * 5000]})
    assert "4,006 characters more" in str(long)


def replaced_by_a_link(key):
    key.rename(key.with_name("copy"))
    key.symlink_to("copy")


@pytest.mark.parametrize(
    "spoil", [replaced_by_a_link, lambda key: key.chmod(0o644), lambda key: key.write_bytes(b"short")]
)
def test_a_key_that_others_may_know_is_an_error_and_no_key(spoil):
    found = effects(STDIO)
    mark = mark_of(found)
    spoil(state_folder() / "mark.key")
    for use in (lambda: is_marked(found, mark), lambda: mark_of(found)):
        with pytest.raises(ConfigError, match=r"mark\.key"):
            use()


def test_a_state_folder_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert not is_marked(effects(STDIO), "0" * 64)
    with pytest.raises(ConfigError, match="cannot be written"):
        mark_of(effects(STDIO))


def test_without_a_home_it_is_an_error(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError(os.getuid())))
    with pytest.raises(ConfigError, match="XDG_STATE_HOME"):
        mark_of(effects(STDIO))
