from __future__ import annotations

import asyncio
import importlib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from streaming_queue.comm import registry
from streaming_queue.errors import BackendNotInstalledError, ConfigError, UnknownProtocolError

TOY = """
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend

class ToyCommBackend(InprocCommBackend):
    name = "toy"

class Nothing:
    pass

text = "no class"
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "registry_toy.py").write_text(TOY)
    (tmp_path / "registry_hungry.py").write_text("import no_such_library_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("spec", registry.BUILTIN, ids=lambda spec: spec.name)
async def test_ours_load_and_bear_their_name_without_a_look_at_the_disk(spec: registry.BackendSpec):
    await asyncio.to_thread(importlib.import_module, spec.target.partition(":")[0])  # libraries may read files
    backend = registry.create(spec.name)
    assert backend.name == spec.name
    await backend.close()


def test_an_unknown_name_is_answered_by_the_nearest():
    with pytest.raises(UnknownProtocolError, match=r"unknown protocol 'htp': did you mean 'http'\? known are .*inproc"):
        registry.load("htp")


def test_a_name_like_no_other_gets_the_list_only():
    with pytest.raises(UnknownProtocolError, match="unknown protocol 'zzzzzz': known are"):
        registry.find("zzzzzz")


def test_a_class_may_be_named_by_its_path(modules: Path):
    assert registry.load("registry_toy:ToyCommBackend").__name__ == "ToyCommBackend"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("registry_toy:Missing", UnknownProtocolError, "module 'registry_toy' has no class 'Missing'"),
        ("registry_toy:text", UnknownProtocolError, "has no class 'text'"),
        ("registry_nowhere:X", UnknownProtocolError, "there is no module 'registry_nowhere'"),
        ("registry_toy.deeper:X", UnknownProtocolError, "there is no module"),
        ("registry_toy:Nothing", ConfigError, "Nothing is not a backend: it lacks send, health_check"),
        ("registry_hungry:X", BackendNotInstalledError, "needs 'no_such_library_at_all': install the package"),
    ],
)
def test_a_path_that_leads_nowhere_says_why(modules: Path, name: str, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        registry.load(name)


def test_a_missing_library_of_ours_names_the_extra(modules: Path, monkeypatch: pytest.MonkeyPatch):
    spec = registry.BackendSpec("hungry", "registry_hungry:X", "", extra="hungry")
    monkeypatch.setattr(registry, "BUILTIN", (*registry.BUILTIN, spec))
    with pytest.raises(BackendNotInstalledError, match=r"pip install 'streaming-queue\[hungry\]'"):
        registry.load("hungry")


def test_an_installed_package_adds_its_own_and_cannot_replace_ours(modules: Path, monkeypatch: pytest.MonkeyPatch):
    def entry_points(*, group: str) -> list[EntryPoint]:
        target = {"streaming_queue.backends": "registry_toy:ToyCommBackend", "streaming_queue.sections": "toy:Toy"}
        return [EntryPoint(name, target[group], group) for name in ("toy", "http")]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert registry.load("toy").__name__ == "ToyCommBackend"
    assert registry.load("http").__name__ == "HttpCommBackend"
    assert registry.known()["http"].target.startswith("streaming_queue.")
    assert registry.known()["toy"].summary == "from registry_toy"
    assert registry.known()["toy"].section == "toy:Toy"
    assert registry.known()["http"].section is None
