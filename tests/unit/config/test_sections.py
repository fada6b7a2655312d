"""Backends declare their sections; the configuration finds them without the libraries of the protocols."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streaming_queue.comm import registry
from streaming_queue.config.backends import sections

LIBRARIES = ("a2a", "aiohttp", "anp", "google.protobuf", "grpc", "mcp", "nats", "starlette", "uvicorn", "websockets")
LOAD = "from streaming_queue.config import load_config; load_config(sets=['protocol=http'], environ={}).section('nats')"


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has after some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_configuration_is_checked_without_any_library_of_a_protocol() -> None:
    loaded = modules_after(LOAD)
    assert "streaming_queue.protocol_backend.nats.options" in loaded
    assert loaded.isdisjoint(LIBRARIES)
    backends = {name for name in loaded if name.startswith(f"{registry.BACKENDS}.")}
    assert not [name for name in backends if name.count(".") > 2 and not name.endswith(".options")]


@pytest.mark.parametrize("code", ["import streaming_queue", "import streaming_queue.cli"])
def test_nothing_of_the_configuration_is_built_before_it_is_needed(code: str) -> None:
    assert modules_after(code).isdisjoint({"streaming_queue.config.root", "pydantic", *LIBRARIES})


@pytest.mark.parametrize("spec", [spec for spec in registry.BUILTIN if spec.section], ids=lambda spec: spec.name)
def test_a_section_may_be_imported_first(spec: registry.BackendSpec) -> None:
    module = str(spec.section).partition(":")[0]
    assert "streaming_queue.config.root" in modules_after(f"import {module}\n{LOAD}")


def test_the_sections_stand_in_the_registrys_order() -> None:
    assert list(sections()) == [spec.name for spec in registry.BUILTIN if spec.section]
