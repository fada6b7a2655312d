from __future__ import annotations

import json

import pytest
import yaml

from streaming_queue.cli import main
from streaming_queue.config import KEYS, Config, load_config


@pytest.fixture
def stq(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


def test_show_has_every_key_its_value_and_origin(stq, tmp_path):
    (tmp_path / "my.yaml").write_text("qa: {worker: {count: 2, endpoints: ['http://u:pw@h']}}")
    code, out, _ = stq("config", "show", "my.yaml", "-s", "core.openai_api_key=sk-secret", "--set", "core.name=x y")
    rows = [line.split(maxsplit=1) for line in out.splitlines()[1:]]
    assert code == 0
    assert [key for key, _ in rows] == KEYS.names
    shown = {key: rest.rsplit(maxsplit=1) for key, rest in rows}
    assert shown["qa.worker.count"] == ["2", "my.yaml"]
    assert shown["qa.worker.endpoints"] == ["['http://***@h']", "my.yaml"]
    assert [part.strip() for part in shown["core.name"]] == ["x y", "-s"]
    assert shown["core.openai_api_key"] == ["'***'", "-s"]
    assert shown["qa.worker.concurrency"] == ["8", "default"]
    assert "sk-secret" not in out


def test_show_as_json(stq, monkeypatch):
    monkeypatch.setenv("STQ_MOCK__LATENCY_MS", "{mean: 10, sigma: 0.5}")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    code, out, _ = stq("config", "show", "--json")
    shown = json.loads(out)
    assert code == 0
    assert list(shown) == KEYS.names
    assert shown["mock.latency_ms"] == {"value": {"mean": 10.0, "sigma": 0.5}, "origin": "STQ_MOCK__LATENCY_MS"}
    assert shown["core.openai_api_key"] == {"value": "***", "origin": "OPENAI_API_KEY"}


def test_show_makes_values_printable(stq):
    _, out, _ = stq("config", "show", "-s", "core.name=a\x1b[2Jb")
    assert "\x1b" not in out
    assert r"a\e[2Jb" in out


def test_show_of_a_wrong_file(stq, tmp_path):
    (tmp_path / "my.yaml").write_text("qa:\n  workers: 3\n")
    assert stq("config", "show", "my.yaml") == (
        2,
        "",
        "error: my.yaml:2: unknown key 'qa.workers'; did you mean qa.worker?\n",
    )


def test_init_writes_exactly_the_defaults(stq, tmp_path):
    code, out, _ = stq("config", "init")
    assert (code, out) == (0, "wrote config.yaml\n")
    text = (tmp_path / "config.yaml").read_text()
    config = load_config("config.yaml", environ={})
    assert config == Config()
    assert {config.origin(key) for key in KEYS.names} == {"config.yaml"}
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert len(comments) >= len(KEYS.names)


def test_init_keeps_what_is_there(stq, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("protocol: inproc\n")
    code, _, err = stq("config", "init", "mine.yaml")
    assert (code, err) == (2, "error: mine.yaml exists already; --force overwrites it\n")
    assert path.read_text() == "protocol: inproc\n"
    assert stq("config", "init", "mine.yaml", "--force")[0] == 0
    assert load_config(path, environ={}) == Config()


def test_init_where_nothing_can_be_written(stq, tmp_path):
    code, _, err = stq("config", "init", "none/mine.yaml")
    assert (code, err) == (2, "error: none/mine.yaml: cannot be written: No such file or directory\n")
    assert stq("config", "init", str(tmp_path), "--force")[0] == 2


def properties(schema, root):
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def test_schema_knows_every_key_and_older_spelling(stq):
    code, out, _ = stq("config", "schema")
    root = json.loads(out)
    assert code == 0
    for key in [*KEYS.names, *KEYS.aliases]:
        place = root
        for name in key.split("."):
            place = properties(place, root)
            assert place["additionalProperties"] is False
            place = place["properties"][name]
        assert place["description"]
        assert place.get("deprecated", False) is (key in KEYS.aliases)
    count = root["$defs"]["Worker"]["properties"]["count"]
    assert (count["minimum"], count["default"], count["type"]) == (1, 4, "integer")


def test_init_file_is_plain_yaml(stq, tmp_path):
    code, _, err = stq("config", "init")
    assert (code, err) == (0, "")
    tree = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert tree["qa"]["worker"] == {
        "count": 4,
        "host": "127.0.0.1",
        "start_port": None,
        "concurrency": 8,
        "mode": "inprocess",
        "endpoints": [],
    }
