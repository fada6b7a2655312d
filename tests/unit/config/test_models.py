from __future__ import annotations

import copy
import pickle

import pydantic
import pytest

from streaming_queue.config import Config, load_config
from streaming_queue.config.agents import Coordinator
from streaming_queue.config.keys import kinds
from streaming_queue.config.pools import Pool
from streaming_queue.config.section import Section
from streaming_queue.config.workers import WorkerGroup
from streaming_queue.errors import ConfigError


def given(*sets: str) -> Config:
    return load_config(environ={}, sets=sets)


def test_sections_read_like_mappings():
    config = given("qa.worker.count=3", "qa.coordinator.start_port=9998")
    assert config["qa"]["worker"]["count"] == config.qa.worker.count == 3
    assert config["qa"]["coordinator"]["start_port"] == config["qa"]["coordinator"]["port"] == 9998
    assert config.get("qa").get("nothing", "else") == "else"
    assert config.get("nothing") is None
    assert config["core"].get("name", "else") is None
    assert "qa" in config
    assert "nothing" not in config
    assert "start_port" in config["qa"]["coordinator"]
    with pytest.raises(KeyError, match="nothing"):
        config["nothing"]
    with pytest.raises(KeyError):
        config["origin"]


def test_a_config_is_frozen_and_copies():
    config = given("qa.worker.count=3")
    with pytest.raises(pydantic.ValidationError):
        config.protocol = "a2a"
    with pytest.raises(pydantic.ValidationError):
        config.qa.worker.count = 9
    for other in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):  # noqa: S301
        assert other == config
        assert other.origin("qa.worker.count") == "-s"
    assert config != given()
    assert config != config.qa


def test_of_takes_what_code_has():
    config = given("qa.worker.count=3")
    assert Config.of(config) is config
    assert Config.of(None) == Config.of({}) == Config()
    made = Config.of({"qa": {"worker": {"count": 2}, "topology": "mesh"}, "core": None})
    assert (made.qa.worker.count, made.network.topology) == (2, "mesh")
    assert made.origin("qa.worker.count") == made.origin("network.topology") == "code"
    assert Config.of({"qa": config.qa}).qa == config.qa
    with pytest.raises(ConfigError, match=r"code: qa\.worker\.count must be"):
        Config.of({"qa": {"worker": {"count": "many"}}})
    with pytest.raises(ConfigError, match=r"did you mean qa\.worker"):
        Config.of({"qa": {"workers": {"count": 1}}})


def test_origin_of_another_spelling_and_of_no_key():
    config = given("qa.topology=mesh")
    assert config.origin("network.topology") == config.origin("qa.topology") == "-s"
    with pytest.raises(ConfigError, match=r"did you mean network\.topology"):
        config.origin("network.topologi")


@pytest.mark.parametrize("section", ["qa", "qa.network"])
@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("response_timeout", "12", "network.message_timeout", 12.0),
        ("max_retries", "2", "scheduler.max_attempts", 3),
        ("max_retries", "0", "scheduler.max_attempts", 1),
        ("health_check_interval", "2.5", "network.health_check_interval", 2.5),
        ("topology", "mesh", "network.topology", "mesh"),
        ("batch_size", "7", "qa.coordinator.batch_size", 7),
        ("metrics", "false", "network.metrics", False),
    ],
)
def test_older_spellings_move(section, name, text, key, value):
    config = load_config(environ={f"STQ_{section}.{name}".upper().replace(".", "__"): text})
    found = config
    for part in key.split("."):
        found = found[part]
    assert found == value
    assert config.origin(key).startswith("STQ_QA__")


def test_two_spellings_of_one_setting_must_agree():
    with pytest.raises(ConfigError, match=r"qa\.topology and network\.topology"):
        Config.of({"qa": {"topology": "mesh"}, "network": {"topology": "star"}})
    with pytest.raises(ConfigError, match=r"qa\.coordinator\.port and qa\.coordinator\.start_port"):
        Config.of({"qa": {"coordinator": {"port": 1, "start_port": 2}}})
    with pytest.raises(ConfigError, match=r"qa\.batch_size and qa\.network\.batch_size"):
        given("qa.batch_size=1", "qa.network.batch_size=2")
    assert given("qa.max_retries=4", "scheduler.max_attempts=5").scheduler.max_attempts == 5
    assert given("qa.coordinator.port=5", "qa.coordinator.start_port=5").qa.coordinator.port == 5


def test_an_older_spelling_has_its_sources_rank():
    config = load_config(environ={"STQ_NETWORK__TOPOLOGY": "star"}, sets=["qa.topology=mesh"])
    assert config.network.topology == "mesh"
    config = load_config(environ={"STQ_QA__TOPOLOGY": "mesh"}, sets=["network.topology=star"])
    assert config.network.topology == "star"


def test_a_wrong_older_value_is_named_as_it_was_given():
    with pytest.raises(ConfigError, match=r"qa\.max_retries \(now scheduler\.max_attempts, one more.*given: -1"):
        given("qa.max_retries=-1")
    with pytest.raises(ConfigError, match=r"qa\.max_retries .*given: True"):
        given("qa.max_retries=true")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("protocol=''", "protocol must have at least 1 character"),
        ("core.type=gpt", "core.type must be 'mock' or 'openai'"),
        ("core.type=local", "core.type local needs core.base_url or core.port"),
        ("core.temperature=-1", "core.temperature must be greater"),
        ("core.max_tokens=0", "core.max_tokens must be greater"),
        ("core.port=0", "core.port must be greater"),
        ("core.base_url=ftp://x", "core.base_url must be an address like http://host:port/v1"),
        ("core.base_url=http://", "core.base_url must be an address"),
        ("core.base_url=http://h:99999", "core.base_url: is not an address"),
        ("core.openai_base_url=http://[::1", "core.openai_base_url: is not an address"),
        ("core={base_url: http://h:1, port: 2}", "core.base_url has port 1, core.port is 2"),
        ("core.timeout_s=0", "core.timeout_s must be greater than 0"),
        ("qa.coordinator.coordinator_id=Runner", "belongs to another agent"),
        ("qa.coordinator.coordinator_id=Worker-12", "belongs to another agent"),
        ("qa.coordinator.port=65536", "qa.coordinator.port must be less than or equal to 65535"),
        ("qa.coordinator.start_port=-1", "qa.coordinator.start_port (now qa.coordinator.port) must be greater"),
        ("qa.coordinator.batch_size=0", "qa.coordinator.batch_size must be"),
        ("qa.coordinator.limit=0", "qa.coordinator.limit must be"),
        ("qa.coordinator.count=2", "qa.coordinator.count must be 1: one coordinator owns a run"),
        ('qa.coordinator.data_file="a\\0b"', "qa.coordinator.data_file must not hold a NUL"),
        ("qa.coordinator.first_50=maybe", "qa.coordinator.first_50 must be a valid boolean"),
        ("qa.worker.count=2.5", "qa.worker.count must be a valid integer"),
        ("qa.worker.count=true", "qa.worker.count must be a number, not true or false"),
        ("qa.worker.concurrency=0", "qa.worker.concurrency must be"),
        ("qa.worker.start_port=65533", "qa.worker.start_port 65533 and qa.worker.count 4 pass port 65535"),
        (
            "qa={worker: {start_port: 9000}, coordinator: {port: 9002}}",
            "qa.coordinator.port 9002 is also the port of Worker-3",
        ),
        ("qa.worker.endpoints=http://a", "qa.worker.endpoints must be a list of addresses"),
        ("qa.worker.endpoints=['']", "qa.worker.endpoints[0] must have at least 1 character"),
        ("network.topology=ring", "network.topology must be 'star', 'mesh', 'custom' or 'hierarchical'"),
        ("network.topology=custom", "network.topology custom needs network.edges"),
        ("network.edges=[[a, b]]", "network.edges needs network.topology custom"),
        ("network={topology: custom, edges: [[a, b], [a]]}", "network.edges[1] must be a pair"),
        ("network={topology: custom, edges: [ab]}", "network.edges[0] must be a pair"),
        ("network.health_check_interval=0", "network.health_check_interval must be greater than 0"),
        ("network.message_timeout=-1", "network.message_timeout must be"),
        ("scheduler.max_attempts=0", "scheduler.max_attempts must be"),
        ("scheduler.lease_s=.inf", "scheduler.lease_s must be a finite number"),
        ("scheduler.no_worker_timeout_s=-1", "scheduler.no_worker_timeout_s must be"),
        ("scheduler.drain_s=-1", "scheduler.drain_s must be"),
        ("scheduler.retry_cap_s=0.01", "scheduler.retry_cap_s 0.01 is below scheduler.retry_base_s 0.1"),
        ("mock.latency_ms=-1", "mock.latency_ms must be greater"),
        ("mock.latency_ms=x", "mock.latency_ms must be a valid number"),
        ("mock.latency_ms.sigma=-1", "mock.latency_ms.sigma must be greater"),
        ("mock.failure_rate=1.5", "mock.failure_rate must be less than or equal to 1"),
        ("mock.seed=null", "mock.seed must not be null"),
    ],
)
def test_refused_values(setting, words):
    with pytest.raises(ConfigError) as caught:
        given(setting)
    assert str(caught.value).startswith("-s: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        "qa.coordinator.port=0",
        "qa.coordinator.port=65535",
        "qa.worker.start_port=65532",
        "qa={worker: {start_port: 9000}, coordinator: {port: 9004}}",
        "qa={worker: {start_port: 9000, host: 127.0.0.2}, coordinator: {port: 9000}}",
        "qa={worker: {start_port: 9000, endpoints: [http://a]}, coordinator: {port: 9000}}",
        "network.message_timeout=0",
        "scheduler.drain_s=0",
        "mock.failure_rate=1",
        "core.temperature=0",
        "network={topology: custom, edges: [[a, b]]}",
        "qa.coordinator.coordinator_id=Coordinator-2",
    ],
)
def test_values_at_their_bounds_are_taken(setting):
    assert given(setting) != Config()


@pytest.mark.parametrize(
    ("core", "base"),
    [
        ({}, None),
        ({"name": "m"}, None),
        ({"name": "m", "type": "mock"}, None),
        ({"openai_base_url": "http://api/v1"}, "http://api/v1"),
        ({"port": 8000}, "http://127.0.0.1:8000/v1"),
        ({"base_url": "gpu-box", "port": 8000}, "http://gpu-box:8000/v1"),
        ({"base_url": "gpu-box:8000"}, "http://gpu-box:8000/v1"),
        ({"base_url": "http://gpu-box:8000/", "port": 8000}, "http://gpu-box:8000/v1"),
        ({"base_url": "https://gpu-box/models/api/"}, "https://gpu-box/models/api"),
        ({"base_url": "http://[::1]", "port": 8000}, "http://[::1]:8000/v1"),
        ({"type": "local", "port": 1, "openai_base_url": "http://api/v1"}, "http://127.0.0.1:1/v1"),
        ({"type": "openai"}, None),
    ],
)
def test_whom_the_core_asks(core, base):
    found = Config.of({"core": core}).core
    assert found.api_base == base
    assert found.type in {None, "mock", "openai"}


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ({}, None),
        ({"first_50": True}, 50),
        ({"limit": 20}, 20),
        ({"limit": 70, "first_50": True}, 50),
        ({"limit": 20, "first_50": True}, 20),
    ],
)
def test_how_many_questions(values, limit):
    assert Coordinator(**values).question_limit == limit


def test_ports_of_workers():
    ports = given("qa.worker={count: 3, start_port: 10001}").ports
    assert ports == {"Worker-1": 10001, "Worker-2": 10002, "Worker-3": 10003}
    assert given("qa.worker.start_port=0").ports == {}
    assert given("qa.worker={start_port: 10001, endpoints: [http://a]}").ports == {}
    assert given().ports == {}


def test_a_path_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert Config.of({"output": {"dir": "~/runs"}}).output.dir == "/home/someone/runs"
    assert Config.of({"output": {"dir": "runs/a"}}).output.dir == "runs/a"


def sections_of(section):
    """A section and all that are below it."""
    yield section
    for field in section.model_fields.values():
        for kind in kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from sections_of(kind)


@pytest.mark.parametrize("section", [*sections_of(Config), WorkerGroup, Pool], ids=lambda section: section.__name__)
def test_every_key_is_described(section):
    described = section.descriptions()
    assert list(described) == list(section.model_fields)
    for name, field in section.model_fields.items():
        is_section = any(isinstance(kind, type) and issubclass(kind, Section) for kind in kinds(field.annotation))
        assert described[name] or (is_section and field.default is not None), name
        assert "\n" not in described[name]
