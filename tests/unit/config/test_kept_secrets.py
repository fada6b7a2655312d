"""Settings with a secret in them: hidden in run.json, known to the user who began the run."""

from __future__ import annotations

import json

import pytest

from streaming_queue.config import Config, resume_config
from streaming_queue.config.kept_secrets import keep, kept
from streaming_queue.config.redaction import hidden
from streaming_queue.errors import ConfigError
from streaming_queue.private_files import state_folder

RUN = "20260101-000000-00000000"
SECRETS = {
    "protocol": "mcp",
    "core": {"openai_base_url": "https://h/v1?api_key=s3cret"},
    "mcp": {"arguments": {"apiKey": "s3cret", "pin_token": 53, "inner": {"password": ["s3cret"]}, "say": "***"}},
    "qa": {"worker": {"endpoints": ["stdio:x --token s3cret", "http://u:s3cret@h/mcp"]}},
}


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def begun(settings):
    """What `run.json` has of a run that was begun with these settings."""
    config = Config.of(settings)
    written = json.loads(json.dumps(config.public()))
    keep(RUN, written, hidden(config))
    return written


def goes_on(written, **more):
    more = {"run_id": RUN, "trust": True, "environ": {}} | more
    return resume_config(written, "run", **more)


def test_nothing_secret_is_written_and_everything_is_resumed():
    written = begun(SECRETS)
    assert "s3cret" not in json.dumps(written)
    assert written["mcp"]["arguments"]["pin_token"] == "***"
    config, before = goes_on(written), Config.of(SECRETS)
    assert (config.core, config.mcp, config.qa) == (before.core, before.mcp, before.qa)
    (file,) = (state_folder() / "runs").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_run_without_secrets_leaves_nothing():
    begun({"core": {"openai_api_key": "sk-1", "name": "m"}})
    assert not state_folder().exists()


@pytest.mark.parametrize("lost", ["machine", "edit", "run"])
def test_elsewhere_the_key_to_give_is_named(lost, tmp_path, monkeypatch):
    written = begun({"core": {"openai_base_url": "https://h/v1?api_key=s3cret", "type": "openai"}})
    more = {}
    if lost == "machine":
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    elif lost == "edit":  # else the secret could go to an address that somebody put in
        written["core"]["name"] = "other"
    else:
        more = {"run_id": "../../x"}
    with pytest.raises(ConfigError, match=r"core\.openai_base_url is a secret or has one"):
        goes_on(written, **more)
    again = "https://h/v1?api_key=other"
    for given in (
        {"sets": [f"core.openai_base_url={again}"]},
        {"environ": {"OPENAI_BASE_URL": again}},
        {"environ": {"STQ_CORE__OPENAI_BASE_URL": again}},
    ):
        assert goes_on(written, **more | given).core.openai_base_url == again


def test_a_command_is_never_begun_with_a_mask_in_it():
    written = begun({"protocol": "mcp", "workers": [{"endpoints": ["stdio:x --token s3cret"]}]})
    assert goes_on(written).roster["Worker-1"].address == "stdio:x --token s3cret"
    with pytest.raises(ConfigError, match=r"workers\[0\]\.endpoints\[0\]"):
        goes_on(written, run_id=None)


def test_new_settings_without_secrets_forget_the_old():
    written = begun(SECRETS)
    keep(RUN, written, {})
    assert kept(RUN, written) == {}
    assert list((state_folder() / "runs").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"config": 1}'])
def test_what_was_kept_and_is_damaged_is_not_used(content):
    written = begun(SECRETS)
    (file,) = (state_folder() / "runs").iterdir()
    file.write_bytes(content)
    assert kept(RUN, written) == {}


def test_what_others_may_read_is_an_error():
    written = begun(SECRETS)
    (file,) = (state_folder() / "runs").iterdir()
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="other users"):
        goes_on(written)
