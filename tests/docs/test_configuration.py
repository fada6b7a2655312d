"""docs/configuration.md says what is true: every key, every default, every example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from streaming_queue.config import FLAGS, KEYS, Config, load_config
from streaming_queue.config.redaction import redacted
from streaming_queue.config.root import OLDER_SPELLINGS

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| `([^`]*)` \| \S", TEXT, re.MULTILINE))
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def default(key):
    value = Config()
    for name in key.split("."):
        value = value[name]
    return redacted(value)


def test_every_key_is_documented_and_no_other():
    assert set(KEYS.names) == set(ROWS)


@pytest.mark.parametrize("key", KEYS.names)
def test_the_documented_default_is_true(key):
    documented = yaml.safe_load(ROWS[key])
    assert documented == default(key)
    assert type(documented) is type(default(key))


def test_older_spellings_are_documented():
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)`[^|]* \|$", TEXT, re.MULTILINE)
    assert dict(rows) == {name: alias.key for name, alias in OLDER_SPELLINGS.items()}


def test_the_parts_of_a_latency_are_documented():
    for name, field in KEYS.leaves["mock.latency_ms"].annotation.__args__[1].__origin__.model_fields.items():
        assert re.search(rf"`mock\.latency_ms\.{name}`\s+\(default {field.default:g}\)", TEXT)


def test_examples_load_and_change_something():
    assert len(EXAMPLES) >= 5
    for example in EXAMPLES:
        assert Config.of(yaml.safe_load(example)) != Config()


def test_local_models_are_asked_where_the_table_says():
    rows = re.findall(r"^\| (?:`(\S+)`|-) \| (?:`(\d+)`|-) \| `(\S+)` \|$", TEXT, re.MULTILINE)
    assert len(rows) == 4
    for base_url, port, asked in rows:
        core = {"base_url": base_url or None, "port": int(port) if port else None}
        assert Config.of({"core": core}).core.api_base == asked


def test_code_does_what_its_comments_say(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").touch()
    names = {}
    exec(code, names)  # noqa: S102
    assert names["config"].qa.worker.count == 8
    assert names["config"].origin("qa.worker.count") == FLAGS["qa.worker.count"] == "--workers"
    assert load_config("config.yaml", environ={}) == Config()


def test_the_errors_shown_are_the_real_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for key, value in (("cuont", 1), ("count", 0)):
        Path("config.yaml").write_text(f"qa:\n  worker:\n    {key}: {value}\n")
        with pytest.raises(ValueError, match=r"config\.yaml:3") as caught:
            load_config("config.yaml", environ={})
        assert f"error: {caught.value}\n" in TEXT
