from __future__ import annotations

import importlib.metadata
from functools import partial

import pytest

from streaming_queue.comm import registry
from streaming_queue.comm.registry import BackendSpec
from streaming_queue.doctor import extras
from streaming_queue.doctor.examination import Check, examine
from streaming_queue.doctor.finding import Level
from streaming_queue.extras import install_command


@pytest.fixture
def known(monkeypatch, tmp_path):
    """inproc, one that lacks a library, and one that fails in its own way."""
    (tmp_path / "needy_backend.py").write_text("import a_library_nobody_has\n")
    (tmp_path / "broken_backend.py").write_text("raise RuntimeError('its own words')\n")
    monkeypatch.syspath_prepend(tmp_path)
    specs = [
        registry.find("inproc"),
        BackendSpec("needy", "needy_backend:Backend", "needs more", extra="needy"),
        BackendSpec("broken", "broken_backend:Backend", "fails"),
        BackendSpec("absent", "no_such_module_here:Backend", "is not there"),
    ]
    monkeypatch.setattr(registry, "known", lambda: {spec.name: spec for spec in specs})


def test_what_is_usable_and_what_to_install(known):
    usable, absent, broken = extras.protocols()
    assert (usable.level, usable.seen) == (Level.OK, "usable: inproc; not installed: needy")
    assert usable.remedy == "pip install 'streaming-queue[needy]'"
    assert (absent.level, broken.level) == (Level.WARNING, Level.WARNING)
    assert "absent cannot be loaded" in absent.seen
    assert broken.seen == "broken cannot be loaded: RuntimeError"
    assert broken.remedy == "update or remove broken_backend:Backend"


def test_what_is_built_in_is_usable():
    (finding,) = (finding for finding in extras.protocols() if finding.seen.startswith("usable: "))
    assert {"a2a", "http", "inproc"} <= set(finding.seen.removeprefix("usable: ").partition(";")[0].split(", "))


@pytest.mark.parametrize(("name", "code"), [("http", 0), ("htpt", 2), ("needy_backend:Backend", 2)])
async def test_the_protocol_of_a_run(known, name, code):
    (finding,) = await examine([Check("protocol", partial(extras.protocol, name))])
    assert (finding.check, finding.code) == ("protocol", code)


def test_the_sdk(monkeypatch):
    (finding,) = extras.openai_sdk()
    assert finding.seen == f"SDK {importlib.metadata.version('openai')}"
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    (finding,) = extras.openai_sdk()
    assert (finding.level, finding.remedy) == (Level.OK, install_command("openai"))
