from __future__ import annotations

import json
import sys
import types

import pytest

from streaming_queue.cli import main
from streaming_queue.comm import registry
from streaming_queue.comm.registry import BackendSpec

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


def test_every_state_is_told(listed, needy):
    specs = [
        INPROC,
        BackendSpec("needy", "needy_backend:Backend", "needs more", extra="needy"),
        BackendSpec("broken", "broken_backend:Backend", "fails"),
        BackendSpec("absent", "no_such_module_here:Backend", "is not there"),
    ]
    lines = listed(specs).splitlines()
    assert lines[0].split() == ["PROTOCOL", "INSTALLED", "ADDRESS", "CAPABILITIES", "ABOUT"]
    rows = {line.split()[0]: line for line in lines[1:5]}
    assert "yes" in rows["inproc"]
    assert "inproc://" in rows["inproc"]
    assert "host, streaming, cancel, metadata" in rows["inproc"]
    assert "pip install 'streaming-queue[needy]'" in rows["needy"]
    assert "broken " in rows["broken"]
    assert "broken " in rows["absent"]
    problems = dict(line.split(": ", 1) for line in lines[5:])
    assert "a_library_nobody_has" in problems["needy"]
    assert problems["broken"] == "RuntimeError: bad\\x1b[2J"
    assert "no_such_module_here" in problems["absent"]


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
    entries = json.loads(capsys.readouterr().out)
    assert {spec.name for spec in registry.BUILTIN} <= {entry["name"] for entry in entries}
