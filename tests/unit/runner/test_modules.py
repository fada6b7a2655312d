"""Each of our protocols has a module `run_<proto>`, which is the template and nothing else."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import streaming_queue.runner
from streaming_queue.comm import registry
from streaming_queue.runner.mixed import MixedRunner
from streaming_queue.runner.runner_base import RunnerBase

MIXED = "meta_network"
FILES = {path.stem.removeprefix("run_"): path for path in Path(streaming_queue.runner.__file__).parent.glob("run_*.py")}


def test_each_protocol_has_one_and_nothing_else_has() -> None:
    assert set(FILES) == {spec.name for spec in registry.BUILTIN} | {MIXED}


@pytest.mark.parametrize("name", sorted(FILES))
def test_it_is_the_template_and_nothing_else(name: str) -> None:
    over, protocols = ("several protocols", r'"\w+"(, "\w+")+') if name == MIXED else (name, f'"{name}"')
    said, imported, made = (line for line in FILES[name].read_text().splitlines() if line)
    assert said == f'"""A run over {over}: `python -m streaming_queue.runner.run_{name} [config.yaml]`."""'
    assert imported == "from streaming_queue.runner.modules import runner_over"
    assert re.fullmatch(rf"\w+Runner = runner_over\({protocols}, module=__name__\)", made)


@pytest.mark.parametrize(("name", "base"), [("http", RunnerBase), (MIXED, MixedRunner)])
def test_it_has_the_class_of_its_runner(name: str, base: type) -> None:
    module = import_module(f"streaming_queue.runner.run_{name}")
    (runner,) = (value for key, value in vars(module).items() if key.endswith("Runner"))
    assert issubclass(runner, base)
    assert name in (MIXED, runner.protocol)
