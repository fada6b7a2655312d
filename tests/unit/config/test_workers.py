from __future__ import annotations

import copy
import json
import pickle

import pytest
from pydantic import SecretStr

from streaming_queue.cli.config_file import json_schema
from streaming_queue.config import BackendSection, Config, load_config, resume_config
from streaming_queue.config.backends import sections
from streaming_queue.errors import ConfigError

MIXED = "workers=[{protocol: ws, count: 2}, {protocol: http, endpoints: [http://a:1, http://b:1]}, {}]"


def given(*sets: str) -> Config:
    return load_config(environ={}, sets=sets)


def core_of(*sets: str):
    (setup,) = given(*sets).roster.values()
    return setup.core


def test_workers_are_numbered_over_the_list():
    roster = given(MIXED, "protocol=grpc").roster
    assert {name: (setup.protocol, setup.address) for name, setup in roster.items()} == {
        "Worker-1": ("ws", None),
        "Worker-2": ("ws", None),
        "Worker-3": ("http", "http://a:1"),
        "Worker-4": ("http", "http://b:1"),
        "Worker-5": ("grpc", None),
    }
    assert given(MIXED).slots("Worker-5") == 8


def test_the_groups_are_settings_like_any_other():
    config = given(MIXED.replace("{}", "{protocol: nats, core: {name: m}, options: {prefix: p}}"))
    for other in (
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),  # noqa: S301
        Config.of({"workers": config.workers}),
        Config.of({"workers": config.public()["workers"]}),
        resume_config(json.loads(json.dumps(config.public())), "run", environ={}),
    ):
        assert other.workers == config.workers
        assert hash(other.workers) == hash(config.workers)
        assert other.roster == config.roster
    assert load_config(environ={"STQ_WORKERS": MIXED.removeprefix("workers=")}).workers == given(MIXED).workers
    assert "core" in json.dumps(json_schema()["$defs"]["WorkerGroup"])


def test_a_group_has_the_runs_model_but_for_what_it_says():
    run = ("core.name=big", "core.temperature=0.5", "core.timeout_s=9")
    core = core_of("workers=[{core: {name: small}}]", *run)
    assert (core.name, core.temperature, core.timeout_s) == ("small", 0.5, 9)
    assert core_of("workers=[{core: {temperature: null}}]", *run).temperature is None
    assert core_of("workers=[{}]", *run) == given(*run).core


@pytest.mark.parametrize("where", ["port: 8000", "base_url: http://h", "openai_base_url: https://p/v1"])
def test_an_own_server_gets_no_key_of_another_server(where: str):
    core = core_of(
        f"workers=[{{core: {{{where}}}}}]", "core.base_url=http://x:9", "core.openai_api_key=k", "core.type=mock"
    )
    assert (core.openai_api_key, core.type) == (None, None)
    assert "x:9" not in str(core.api_base)
    own = core_of(f"workers=[{{core: {{{where}, openai_api_key: mine}}}}]", "core.openai_api_key=k")
    assert own.openai_api_key == SecretStr("mine")
    assert core_of("workers=[{core: {name: m}}]", "core.openai_api_key=k").openai_api_key == SecretStr("k")


def test_a_group_has_the_options_of_its_protocol_but_for_what_it_says():
    config = given(
        "nats.url=nats://h", "nats.prefix=p", "workers=[{protocol: nats, options: {prefix: q}}, {protocol: nats}, {}]"
    )
    first, second, third = config.roster.values()
    assert (first.options.url, first.options.prefix) == (SecretStr("nats://h"), "q")
    assert second.options == config.nats
    assert third.options == config.a2a
    assert given("workers=[{protocol: http}]").roster["Worker-1"].options is None


def test_a_section_and_its_class_go_by_the_protocols_name():
    fields = {name: field.annotation for name, field in Config.model_fields.items()}
    assert sections() == {name: kind for name, kind in fields.items() if issubclass(kind_of(kind), BackendSection)}


def kind_of(annotation):
    return annotation if isinstance(annotation, type) else object


def test_one_worker_works_by_a_configuration_of_its_own():
    config = given(
        "workers=[{}, {protocol: nats, core: {name: m}, options: {prefix: q}}]", "qa.worker.start_port=65534"
    )
    alone = config.of_worker("Worker-2")
    assert (alone.protocol, alone.core.name, alone.nats.prefix, alone.workers) == ("nats", "m", "q", ())
    assert list(alone.roster) == ["Worker-1"]
    assert Config.of(alone.public()) == alone
    assert Config().of_worker("Worker-1") == Config()


def test_who_answers_by_which_model():
    config = given("workers=[{count: 2}, {core: {name: m}}, {endpoints: [a], core: {name: n}}, {protocol: ws}]")
    assert {core.name: workers for core, workers in config.answering.items()} == {
        None: ["Worker-1", "Worker-2", "Worker-5"],
        "m": ["Worker-3"],
    }
    assert given("qa.worker.endpoints=[a]").answering == {}


def test_ports_belong_to_those_that_are_started():
    assert given(MIXED, "qa.worker.start_port=7001").ports == {"Worker-1": 7001, "Worker-2": 7002, "Worker-5": 7005}
    with pytest.raises(ConfigError, match="start_port 65533 and the 5 workers of the list workers pass port 65535"):
        given(MIXED, "qa.worker.start_port=65533")
    with pytest.raises(ConfigError, match=r"qa\.coordinator\.port 7005 is also the port of Worker-5"):
        given(MIXED, "qa.worker.start_port=7001", "qa.coordinator.port=7005")
    given(MIXED, "qa.worker.start_port=7001", "qa.coordinator.port=7003")


def test_the_protocol_of_a_run():
    assert given("workers=[{protocol: ws}]").protocol_name == "mixed"
    assert given("workers=[{protocol: ws}, {}]", "protocol=ws").protocol_name == "ws"
    assert given("protocol=http").protocol_name == "http"


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ("4", "workers must be a list of groups"),
        ("[4]", r"workers\[0\] must be a mapping"),
        ("[{}, {cuont: 2}]", r"workers\[1\]: it has the unknown key 'cuont'; did you mean count\?"),
        ("[{count: 0}]", r"workers\[0\]\.count must be greater than or equal to 1"),
        ("[{count: true}]", r"workers\[0\]\.count must be a number"),
        ("[{endpoints: a}]", r"workers\[0\]\.endpoints must be a list of addresses"),
        ("[{count: 1, endpoints: [a]}]", r"workers\[0\]: has a count and endpoints"),
        ("[{core: big}]", r"workers\[0\]\.core: core must be a mapping"),
        ("[{core: {nam: m}}]", r"core has the unknown key 'nam'; did you mean name\?"),
        ("[{core: {temperature: -1}}]", r"core\.temperature must be greater"),
        ("[{core: {type: local}}]", "core.type local needs core.base_url or core.port"),
        ("[{protocol: http, options: {x: 1}}]", "the protocol 'http' has none; those of a2a, .*nats are known"),
        ("[{options: {binding: GRPC}}]", "no protocol is named"),
        ("[{protocol: a2a, options: {bindin: GRPC}}]", "options has the unknown key 'bindin'; did you mean binding"),
        ("[{protocol: a2a, options: {binding: x}}]", r"options\.binding must be 'JSONRPC'"),
    ],
)
def test_a_wrong_list_is_named_with_its_place(groups: str, words: str):
    with pytest.raises(ConfigError, match=words):
        given(f"workers={groups}")


@pytest.mark.parametrize("other", ["qa.worker.count=4", "qa.worker.endpoints=[http://a]"])
def test_two_lists_of_workers_are_refused_wherever_they_stand(tmp_path, other: str):
    path = tmp_path / "mixed.yaml"
    path.write_text("protocol: http\nworkers:\n  - {protocol: ws}\n")
    with pytest.raises(ConfigError, match=r"-s and .*mixed\.yaml:2: qa\.worker\.\w+ and workers both define"):
        load_config(path, environ={}, sets=[other])
    assert (
        load_config(path, environ={}, sets=["qa.worker.concurrency=2", "qa.worker.mode=process"]).slots("Worker-1") == 2
    )
    given("workers=[]", other)


def test_pools_have_their_own_workers():
    with pytest.raises(ConfigError, match=r"workers and network\.pools both define"):
        given(MIXED, "network.topology=hierarchical", "network.pools={Sub-1: {count: 2}}")


def test_secrets_are_not_shown_kept_or_guessed():
    secret = "workers=[{core: {openai_api_key: s3cret}}, {protocol: nats, options: {url: nats://me:s3cret@h}}]"
    config = given(secret)
    public = config.public()
    assert "s3cret" not in json.dumps(public)
    assert "s3cret" not in repr(config)
    with pytest.raises(ConfigError, match=r"workers\[0\]\.core\.openai_api_key is a secret"):
        resume_config(public, "run", environ={})
    assert resume_config(public, "run", environ={}, sets=[secret]).workers == config.workers
    with pytest.raises(ConfigError, match="count") as caught:
        given(secret.replace("{core", "{count: 0, core"))
    assert "s3cret" not in str(caught.value)


def test_a_list_that_holds_itself_is_an_error_like_any_other(tmp_path):
    path = tmp_path / "c.yaml"
    for text in ("workers: &a [*a]", "workers: [&a {core: *a}]", "workers: [{core: &a {name: *a}}]"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"c\.yaml"):
            load_config(path, environ={})


def test_auto_chooses_among_protocols_that_are_named():
    config = given(
        "protocol=auto", "workers=[{protocol: ws}, {protocol: http}]", "auto={streaming: true, exploration: 0.1}"
    )
    assert (config.protocol_name, config.control_protocol) == ("auto", "a2a")
    assert config.of_worker("Worker-1").protocol == "ws"
    assert (config.auto.required, config.auto.exploration) == (["streaming"], 0.1)
    assert given("auto.max_overhead_ms=5", "auto.identity=true").auto.required == ["identity", "metadata"]
    assert resume_config(config.public(), "run", environ={}).auto == config.auto


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["protocol=auto"], "protocol auto chooses among protocols: give workers of at least two"),
        (["protocol=auto", "workers=[{protocol: ws}, {protocol: ws}]"], "give workers of at least two"),
        (["protocol=auto", "workers=[{protocol: ws}, {}]"], r"workers\[1\] names no protocol"),
        (["protocol=auto", "workers=[{protocol: auto}, {protocol: ws}]"], r"workers\[0\] names no protocol"),
        (["auto.exploration=0"], r"auto\.exploration must be greater than 0"),
        (["auto.exploration=0.6"], r"auto\.exploration must be less than or equal to 0\.5"),
        (["auto.max_overhead_ms=0"], r"auto\.max_overhead_ms must be greater than 0"),
    ],
)
def test_auto_without_a_choice_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        given(*settings)
