from __future__ import annotations

from pathlib import Path

import pytest

from streaming_queue.config import Config, load_config, resume_config
from streaming_queue.errors import ConfigError


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def failure(**arguments) -> str:
    arguments.setdefault("environ", {})
    with pytest.raises(ConfigError) as caught:
        load_config(arguments.pop("path", None), **arguments)
    return str(caught.value)


def test_nothing_given_is_the_defaults():
    config = load_config(environ={})
    assert config == Config()
    assert hash(config) == hash(Config())
    assert config.origin("qa.worker.count") == "default"


@pytest.mark.parametrize("text", ["", "\n# a comment\n", "---\n", "qa:\n", "qa:\n  worker:\n    # count: 8\n"])
def test_an_empty_file_or_section_is_the_defaults(tmp_path, text):
    assert load_config(write(tmp_path, text), environ={}) == Config()


def test_each_source_is_remembered(tmp_path):
    path = write(tmp_path, "protocol: inproc\nqa: {worker: {count: 2}, coordinator: {limit: 3}}\n")
    config = load_config(
        path,
        environ={"STQ_NETWORK__TOPOLOGY": "mesh", "OPENAI_API_KEY": "sk-1"},
        flags={"qa.worker.count": 8, "output.dir": None, "core.name": "m"},
        sets=["mock.seed=1", "mock.seed=2"],
    )
    assert config.qa.worker.count == 8
    assert config.mock.seed == 2
    expected = {
        "protocol": str(path),
        "qa.coordinator.limit": str(path),
        "qa.worker.count": "--workers",
        "core.name": "--model",
        "network.topology": "STQ_NETWORK__TOPOLOGY",
        "core.openai_api_key": "OPENAI_API_KEY",
        "mock.seed": "-s",
        "output.dir": "default",
    }
    assert {key: config.origin(key) for key in expected} == expected


def test_the_process_environment_is_the_default_one(monkeypatch):
    monkeypatch.setenv("STQ_MOCK__SEED", "41")
    assert load_config().mock.seed == 41


def test_an_empty_variable_or_flag_is_not_given(tmp_path):
    path = write(tmp_path, "protocol: inproc\nqa: {worker: {endpoints: [inproc://a]}}")
    config = load_config(
        path, environ={"STQ_PROTOCOL": " ", "OPENAI_API_KEY": ""}, flags={"qa.worker.endpoints": [], "protocol": None}
    )
    assert (config.protocol, config.qa.worker.endpoints) == ("inproc", ("inproc://a",))
    assert config.core.openai_api_key is None


def test_a_reserved_variable_is_no_setting():
    assert load_config(environ={"STQ_DEBUG": "1", "PATH": "/bin"}) == Config()


def test_a_section_may_be_given_whole_and_merges():
    config = load_config(environ={"STQ_QA": "{worker: {count: 3, host: 0.0.0.0}}"}, sets=["qa.worker={count: 5}"])
    assert (config.qa.worker.count, config.qa.worker.host) == (5, "0.0.0.0")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", "4"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("a: b", "a: b"),
        ("'4'", "4"),
        ("null", None),
        ("[x", "[x"),
    ],
)
def test_a_text_from_the_command_line_stays_as_it_is(text, value):
    assert load_config(environ={}, sets=[f"core.name={text}"]).core.name == value


@pytest.mark.parametrize("text", ["1e2", "100", "100.0", "'100'"])
def test_numbers_as_people_write_them(text):
    assert load_config(environ={}, sets=[f"mock.latency_ms={text}"]).mock.latency_ms == 100.0


def test_a_path_object_is_a_path(tmp_path):
    assert load_config(environ={}, flags={"output.dir": tmp_path}).output.dir == str(tmp_path)


def test_a_key_below_a_value_replaces_it_and_the_other_way_round(tmp_path):
    path = write(tmp_path, "mock: {latency_ms: {mean: 3, sigma: 1}}")
    assert load_config(path, environ={}, sets=["mock.latency_ms=7"]).mock.latency_ms == 7.0
    config = load_config(path, environ={"STQ_MOCK__LATENCY_MS": "7"}, sets=["mock.latency_ms.sigma=2"])
    assert (config["mock"]["latency_ms"]["mean"], config["mock"]["latency_ms"]["sigma"]) == (50.0, 2.0)
    assert config.origin("mock.latency_ms") == "-s"
    merged = load_config(path, environ={}, sets=["mock.latency_ms.sigma=2"])
    assert merged.mock.latency_ms.mean == 3.0
    assert merged.origin("mock.latency_ms") == f"{path}, -s"


def test_the_providers_variables_rank_between_file_and_ours(tmp_path):
    path = write(tmp_path, "core: {openai_api_key: from-file, openai_base_url: http://file/v1}")
    provider = {"OPENAI_API_KEY": "from-provider\n", "OPENAI_BASE_URL": "http://provider/v1"}
    config = load_config(path, environ=provider)
    assert config.core.openai_api_key.get_secret_value() == "from-provider"
    assert config.core.openai_base_url == "http://provider/v1"
    ours = load_config(path, environ=provider | {"STQ_CORE__OPENAI_API_KEY": "ours"})
    assert ours.core.openai_api_key.get_secret_value() == "ours"


def test_a_nats_server_is_taken_from_natss_own_variables_and_not_written_down():
    environ = {"NATS_URL": "nats://me:s3cret@h", "NATS_CREDS": "~/a.creds"}
    config = load_config(environ=environ)
    assert config.nats.url.get_secret_value() == "nats://me:s3cret@h"
    assert config.nats.credentials == str(Path("~/a.creds").expanduser())
    assert (config.origin("nats.url"), config.public()["nats"]["url"]) == ("NATS_URL", "***")
    assert config.nats.options() == {"url": "nats://me:s3cret@h", "credentials": config.nats.credentials}
    resumed = resume_config(config.public(), "run", environ=environ)
    assert resumed.nats.url.get_secret_value() == "nats://me:s3cret@h"
    assert resume_config(config.public(), "run", environ={}).nats.url is None
    ours = load_config(environ=environ | {"STQ_NATS__URL": "nats://other"})
    assert ours.nats.url.get_secret_value() == "nats://other"


def test_the_tokens_are_taken_from_the_environment_and_not_written_down():
    environ = {"STQ_NETWORK__TOKEN": "asks-sesame", "STQ_NETWORK__OPERATOR_TOKEN": "commands-sesame"}
    config = load_config(environ=environ)
    assert "sesame" not in f"{config!r} {config.public()}"
    network = resume_config(config.public(), "run", environ=environ).network
    assert network.token.get_secret_value() == "asks-sesame"
    assert network.operator_token.get_secret_value() == "commands-sesame"
    assert resume_config(config.public(), "run", environ={}).network.operator_token is None


def test_what_every_worker_holds_is_no_operators_token():
    same = {"STQ_NETWORK__TOKEN": "same-sesame", "STQ_NETWORK__OPERATOR_TOKEN": "same-sesame"}
    reported = failure(environ=same)
    assert "network.operator_token is the same as network.token" in reported
    assert "sesame" not in reported


def test_the_providers_key_is_not_for_a_local_model(tmp_path):
    environ = {"OPENAI_API_KEY": "sk-secret"}
    assert load_config(environ=environ, sets=["core.port=8000"]).core.openai_api_key is None
    assert load_config(environ=environ, sets=["core.base_url=http://box"]).core.openai_api_key is None
    own = load_config(environ=environ, sets=["core.port=8000", "core.openai_api_key=mine"])
    assert own.core.openai_api_key.get_secret_value() == "mine"
    assert load_config(environ=environ, sets=["core.port=null"]).core.openai_api_key is not None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sets": ["qa.worker.cuont=1"]}, ["-s", "'qa.worker.cuont'", "did you mean qa.worker.count?"]),
        ({"environ": {"STQ_QA__WORKER__CUONT": "1"}}, ["STQ_QA__WORKER__CUONT", "did you mean qa.worker.count?"]),
        ({"flags": {"qa.worker.numbr": 1}}, ["--numbr", "'qa.worker.numbr'"]),
        ({"sets": ["count=1"]}, ["'count'", "did you mean qa."]),
        ({"sets": ["concurrency=1"]}, ["did you mean qa.worker.concurrency?"]),
        ({"sets": ["qa.worker.count"]}, ["-s qa.worker.count", "key=value"]),
        ({"sets": ["=1"]}, ["key=value"]),
        ({"sets": ["qa=3"]}, ["-s", "qa must be a mapping"]),
        ({"sets": ["qa.worker=[1]"]}, ["qa.worker must be a mapping of keys, not a list"]),
        ({"sets": ["qa.worker.count=["]}, ["-s: qa.worker.count", "while parsing"]),
        ({"environ": {"STQ_": "{protocol: x}"}}, ["STQ_", "unknown key ''"]),
        ({"sets": ["zzzzzzzz=1"]}, ["unknown key 'zzzzzzzz'"]),
    ],
)
def test_wrong_keys_say_what_was_meant(given, words):
    text = failure(**given)
    assert all(word in text for word in words), text


def test_no_suggestion_where_nothing_is_near():
    assert "did you mean" not in failure(sets=["zzzzzzzz=1"])


LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("qa:\n  worker:\n    cuont: 1\n", ["config.yaml:3", "'qa.worker.cuont'", "qa.worker.count"]),
        ("qa:\n  worker:\n    count: 0\n", ["config.yaml:3", "qa.worker.count", "(given: 0)"]),
        ("protocol: http\nprotocol: a2a\n", ["config.yaml:2", "'protocol' is given twice, first in line 1"]),
        ("qa: {worker: {count: 1, count: 2}}", ["config.yaml:1", "'count' is given twice"]),
        ("a: b: c\n", ["config.yaml:1", "mapping values are not allowed"]),
        ("qa:\n\tworker: 1\n", ["config.yaml:2"]),
        ("- a\n- b\n", ["config.yaml", "the top level must be a mapping of keys, not a list"]),
        ("just text", ["the top level must be a mapping of keys, not a single value"]),
        ("protocol: a\n---\nprotocol: b\n", ["config.yaml:2"]),
        ("qa: *nowhere", ["config.yaml:1", "undefined alias"]),
        ("core: !!python/object/apply:os.system [ls]", ["config.yaml:1", "could not determine a constructor"]),
        ("core: {name: 2024-99-99}", ["config.yaml", "month"]),
        ("qa.worker.count: 3", ["config.yaml:1", "nest it (qa: {worker: {count: ...}})"]),
        ("'': {protocol: a2a}", ["unknown key ''"]),
        ("1: 2", ["unknown key '1'"]),
        (f"protocol:\n  {'[' * 5000}", ["config.yaml:2", "nested too deeply"]),
        ("protocol: a\x01b", ["config.yaml:1", "is not allowed"]),
        (b"protocol: http\nqa: \xff\xfe\n", ["config.yaml:2", "0xff is not UTF-8"]),
        ("protocol: 4", ["protocol must be a text; put it in quotes (given: 4)"]),
        ("protocol:", ["protocol must not be null"]),
        ("qa:\n  worker: {endpoints: &a [*a]}", ["config.yaml:2", "*a"]),
        ("qa: &a\n  worker:\n    <<: *a", ["config.yaml:3", "*a"]),
        ("qa: &a\n  ? *a\n  : 1", ["config.yaml:2", "*a"]),
        (LAUGHS, ["config.yaml:6", "the aliases repeat over"]),
        (LAUGHS.replace("[", "{<<: [").replace("]", "]}"), ["config.yaml:", "the aliases repeat over"]),
        (f"a: &a {'x' * 1000}\nb: [{'*a, ' * 1000}]", ["config.yaml:2", "the aliases repeat over"]),
        (
            "a0: &a0 []\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 300)),
            ["config.yaml:99", "nested too"],
        ),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, text, words):
    message = failure(path=write(tmp_path, text))
    assert all(word in message for word in words), message
    assert len(message) < 400 + len(str(tmp_path))


def test_a_file_that_cannot_be_read(tmp_path):
    assert "there is no such file" in failure(path=tmp_path / "none.yaml")
    assert "this is a directory" in failure(path=tmp_path)
    assert "cannot be read" in failure(path=write(tmp_path, "") / "below")
    assert "cannot be read" in failure(path="a\0b")


def test_a_byte_order_mark_merge_keys_and_repeated_aliases_are_fine(tmp_path):
    text = "\ufeffqa:\n  worker: &w {count: 2}\n  coordinator: {<<: {limit: 5}, limit: 6}\nmock: {latency_ms: &l {mean: 1}}\n"
    config = load_config(write(tmp_path, text), environ={})
    assert (config.qa.worker.count, config.qa.coordinator.limit) == (2, 6)


def test_what_people_do_with_anchors_works(tmp_path):
    shared = "workers:\n- &w {protocol: http, endpoints: [http://127.0.0.1:1]}\n"
    again = "".join(f"- {{<<: *w, endpoints: [http://127.0.0.1:{number}]}}\n" for number in range(2, 200))
    config = load_config(write(tmp_path, shared + again), environ={})
    assert {group.protocol for group in config.workers} == {"http"}
    assert len(config.workers) == 199


def test_a_value_of_nested_aliases_is_refused_wherever_it_is_given():
    bomb = "[&a [lol], " + ", ".join(f"&a{n} [{', '.join(['*a' + str(n - 1 or '')] * 9)}]" for n in range(1, 30)) + "]"
    assert "qa.worker.endpoints" in failure(sets=[f"qa.worker.endpoints={bomb}"])
    assert "the aliases repeat over" in failure(sets=[f"qa.worker.endpoints={bomb}"])
    assert "the aliases repeat over" in failure(environ={"STQ_QA__WORKER__ENDPOINTS": bomb})


def test_all_wrong_values_are_in_one_error():
    text = failure(sets=["qa.worker.count=0", "mock.failure_rate=2"])
    assert "qa.worker.count" in text
    assert "mock.failure_rate" in text


def test_a_rule_about_two_keys_says_where_they_stand(tmp_path):
    path = write(tmp_path, "scheduler:\n  retry_base_s: 10\n")
    assert f"{path}:2: scheduler.retry_cap_s 5 is below scheduler.retry_base_s 10" in failure(path=path)


SECRET = "sk-very-secret"


@pytest.mark.parametrize(
    "arguments",
    [
        {"environ": {"STQ_CORE__OPENAI_API_KEY": f"{{a: {SECRET}}}", "STQ_CORE__NAME": "''"}},
        {"sets": [f"core={{openai_api_key: [{SECRET}]}}"]},
        {"sets": [f"core={{openai_api_kye: {SECRET}}}"]},
        {"sets": [f"core.openai_api_key: {SECRET}"]},
        {"sets": [f"core=[{SECRET}]"]},
        {"sets": [f"qa.worker.endpoints=http://user:{SECRET}@host"]},
        {"sets": [f"core.openai_base_url=ftp://user:{SECRET}@host"]},
        {"sets": [f"core.openai_base_url=http://user:{SECRET}/more@host"]},
        {"sets": [f"core.openai_base_url=http://user:a b {SECRET}@host:0"]},
        {"sets": [f"core.openai_base_url=user:{SECRET}@host:99999"]},
        {"sets": [f"core.openai_base_url=ftp://host/?api_key={SECRET}"]},
        {"sets": [f"qa.worker.endpoints=stdio:x --token {SECRET}"]},
        {"sets": [f"mcp.arguments=[{{apiKey: {SECRET}}}]"]},
    ],
)
def test_an_error_has_no_secret(arguments):
    assert SECRET not in failure(**arguments)


def test_a_secret_is_never_shown():
    config = load_config(
        environ={}, sets=[f"core.openai_api_key={SECRET}", f"core.openai_base_url=http://u:{SECRET}@h/v1"]
    )
    assert (
        SECRET
        not in f"{config!r} {config.core} {config.public()} {config.core.model_dump_json(exclude={'openai_base_url'})}".replace(
            config.core.openai_base_url, ""
        )
    )
    assert config.public()["core"]["openai_base_url"] == "http://***@h/v1"
    assert config.public()["core"]["openai_api_key"] == "***"


def test_a_resume_takes_new_settings_before_those_the_run_began_with():
    kept = load_config(environ={}, sets=["qa.worker.count=2", "qa.coordinator.limit=10", "mock.seed=3"]).public()
    flags = {"qa.worker.count": 6, "qa.coordinator.limit": None}
    config = resume_config(kept, "run", flags=flags, sets=["qa.worker.count=8"], environ={})
    assert (config.qa.worker.count, config.qa.coordinator.limit, config.mock.seed) == (8, 10, 3)
    assert resume_config(kept, "run", flags=flags, environ={}).qa.worker.count == 6
    assert config.output.resume
