"""Whatever is given where: for each key the first source that gives it decides, and is remembered."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_queue.config import FLAGS, KEYS, Config, load_config
from streaming_queue.config.load import ENVIRONMENT_PREFIX

VALUES = {
    "protocol": st.sampled_from(["http", "a2a", "inproc", "4", "on"]),
    "core.type": st.sampled_from(["mock", "openai", None]),
    "core.name": st.one_of(st.none(), st.sampled_from(["gpt", "007", "true", "a: b", "x #y"])),
    "core.temperature": st.one_of(st.none(), st.floats(0, 2)),
    "core.max_tokens": st.one_of(st.none(), st.integers(1, 9999)),
    "qa.coordinator.first_50": st.booleans(),
    "qa.coordinator.port": st.one_of(st.none(), st.integers(0, 65535)),
    "qa.coordinator.limit": st.one_of(st.none(), st.integers(1, 500)),
    "qa.worker.count": st.integers(1, 64),
    "qa.worker.concurrency": st.integers(1, 64),
    "qa.worker.endpoints": st.lists(st.sampled_from(["http://a:1", "http://b:2"]), min_size=1),
    "network.topology": st.sampled_from(["star", "mesh"]),
    "network.message_timeout": st.floats(0, 1e6),
    "network.metrics": st.booleans(),
    "mock.seed": st.integers(),
    "mock.failure_rate": st.floats(0, 1),
    "output.dir": st.sampled_from(["out", "runs/1", "../x"]),
}
SOME = st.fixed_dictionaries({}, optional=VALUES)


def tree(values):
    root = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = root
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return root


def as_yaml(value):
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def as_yaml_assignment(key, value):
    return f"{key}={as_yaml(value)}"


def read(config, key):
    value = config
    for name in key.split("."):
        value = value[name]
    return list(value) if isinstance(value, tuple) else value


@settings(max_examples=150, deadline=None)
@given(file=SOME, environ=SOME, flags=SOME, sets=SOME)
def test_the_first_source_that_gives_a_key_decides(file, environ, flags, sets):
    variables = {key: ENVIRONMENT_PREFIX + key.upper().replace(".", "__") for key in VALUES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(tree(file)))
        config = load_config(
            path,
            environ={variables[key]: as_yaml(value) for key, value in environ.items()},
            flags=flags,
            sets=[as_yaml_assignment(key, value) for key, value in sets.items()],
        )
    defaults = Config()
    given_flags = {key: value for key, value in flags.items() if value is not None}
    for key in KEYS.names:
        flag = FLAGS.get(key, f"--{key.rpartition('.')[2].replace('_', '-')}")
        sources = [(sets, "-s"), (given_flags, flag), (environ, variables.get(key)), (file, str(path))]
        expected = next(
            ((values[key], origin) for values, origin in sources if key in values), (read(defaults, key), "default")
        )
        assert (read(config, key), config.origin(key)) == expected


@given(values=SOME)
def test_a_mapping_made_in_code_means_the_same(values):
    made = Config.of(tree(values))
    assert made == load_config(environ={}, sets=[as_yaml_assignment(key, value) for key, value in values.items()])
    assert {made.origin(key) for key in values} <= {"code"}
