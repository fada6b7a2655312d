from __future__ import annotations

import shlex
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from streaming_queue import extras

STATED = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("extra", ["openai", "grpc", "anp", "ws", "nats", "testing"])
def test_an_extra_is_installed_by_its_requirements_which_any_index_has(extra: str) -> None:
    pip, install, *named = shlex.split(extras.install_command(extra))
    assert (pip, install) == ("pip", "install")
    assert {Requirement(need) for need in named} == {Requirement(need) for need in STATED[extra]}


@pytest.mark.parametrize("stated", [None, ["x>=1; extra == 'other'"]])
def test_where_nothing_is_known_of_an_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, stated) -> None:
    monkeypatch.setattr(extras, "requires", lambda name: stated)
    assert extras.install_command("ws") == "pip install 'streaming-queue[ws]'"


def test_without_being_installed_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", requires)
    assert extras.install_command("ws") == "pip install 'streaming-queue[ws]'"
