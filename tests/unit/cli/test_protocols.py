from __future__ import annotations

import json
import re
import sys
import types

import pytest

from streaming_queue.cli import main
from streaming_queue.comm import registry
from streaming_queue.comm.base import About
from streaming_queue.comm.registry import BackendSpec
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend

INPROC = BackendSpec(
    "inproc", "streaming_queue.protocol_backend.inproc.comm:InprocCommBackend", "function calls, no wire"
)


@pytest.fixture
def listed(capsys, monkeypatch):
    def call(specs, *arguments: str) -> str:
        monkeypatch.setattr(registry, "known", lambda: {spec.name: spec for spec in specs})
        with pytest.raises(SystemExit) as caught:
            main(["protocols", *arguments])
        assert caught.value.code == 0
        return capsys.readouterr().out

    return call


@pytest.fixture
def needy(monkeypatch, tmp_path):
    """A module that imports what is not installed, and one that fails in its own way."""
    (tmp_path / "needy_backend.py").write_text("import a_library_nobody_has\n")
    (tmp_path / "broken_backend.py").write_text("raise RuntimeError('bad\\x1b[2J')\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_every_state_is_listed(listed, needy):
    specs = [
        INPROC,
        BackendSpec("needy", "needy_backend:Backend", "needs more", extra="needy"),
        BackendSpec("broken", "broken_backend:Backend", "fails"),
        BackendSpec("absent", "no_such_module_here:Backend", "is not there"),
    ]
    abilities, origins, told = (part.splitlines() for part in listed(specs).split("\n\n"))
    assert abilities[0].split() == ["PROTOCOL", "INSTALLED", "ADDRESS", "CAPABILITIES", "PROBE"]
    rows = {line.split()[0]: line.split()[1:] for line in abilities[1:]}
    inproc = "yes inproc:// host streaming cancel metadata whether it is hosted"
    assert rows == {
        "inproc": inproc.split(),
        "needy": ["no", "-", "-", "-"],
        "broken": ["broken", "-", "-", "-"],
        "absent": ["broken", "-", "-", "-"],
    }
    assert origins[0].split() == ["PROTOCOL", "ABOUT"]
    assert [line.split() for line in origins if line.startswith("needy")] == [["needy", "needs", "more"]]
    problems = dict(line.split(": ", 1) for line in told)
    assert "'a_library_nobody_has': pip install 'streaming-queue[needy]'" in problems["needy"]
    assert problems["broken"] == "RuntimeError: bad\\x1b[2J"
    assert "no_such_module_here" in problems["absent"]


def test_the_facts_of_a_protocol_are_listed(listed, monkeypatch):
    class Mine(InprocCommBackend):
        about = About("a check_auth at the door", "Mine 2.1", "https://mine.example/2.1")

    monkeypatch.setitem(sys.modules, "mine_backend", types.SimpleNamespace(Mine=Mine))
    specs = [BackendSpec("mine", "mine_backend:Mine", "my own")]
    abilities, origins = listed(specs).split("\n\n")
    assert abilities.endswith("  a check_auth at the door")
    assert origins.splitlines()[1:] == ["mine      my own", "          Mine 2.1: https://mine.example/2.1"]
    (entry,) = json.loads(listed(specs, "--json"))
    wanted = {"probe": "a check_auth at the door", "specification": "Mine 2.1", "link": "https://mine.example/2.1"}
    assert wanted.items() <= entry.items()


def test_as_json(listed, needy):
    specs = [INPROC, BackendSpec("needy", "needy_backend:Backend", "needs more", extra="needy")]
    inproc, needy_entry = json.loads(listed(specs, "--json"))
    assert inproc == {
        "name": "inproc",
        "summary": "function calls, no wire",
        "class": INPROC.target,
        "installed": True,
        "install": None,
        "problem": None,
        "capabilities": ["host", "streaming", "cancel", "metadata"],
        "schemes": ["inproc"],
        "probe": "whether it is hosted",
        "specification": "",
        "link": "",
    }
    assert (needy_entry["installed"], needy_entry["install"]) == (False, "pip install 'streaming-queue[needy]'")


def test_a_backend_after_the_guide_has_no_claims(listed, monkeypatch):
    async def nothing(*_):
        """What the guide's skeleton would do."""

    methods = dict.fromkeys(("send", "health_check", "register_endpoint", "close"), nothing)
    module = types.ModuleType("guide_backend")
    module.Backend = type("Backend", (), methods)
    monkeypatch.setitem(sys.modules, "guide_backend", module)
    (entry,) = json.loads(listed([BackendSpec("guide", "guide_backend:Backend", "plain")], "--json"))
    assert (entry["installed"], entry["capabilities"], entry["schemes"]) == (True, [], [])


def test_what_is_built_in_is_listed(capsys):
    with pytest.raises(SystemExit):
        main(["protocols", "--json"])
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {spec.name for spec in registry.BUILTIN} <= set(entries)
    for spec in registry.BUILTIN:
        entry = entries[spec.name]
        if entry["installed"]:
            assert entry["probe"]
            assert spec.name == "inproc" or re.search(r"\d", entry["specification"]), "a version"
            assert spec.name == "inproc" or entry["link"].startswith("https://")


def test_the_columns_are_held_to_a_readable_width(listed):
    out = listed(registry.BUILTIN)
    assert max(map(len, out.splitlines())) <= 110
