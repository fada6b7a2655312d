from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import fields

import pytest

import streaming_queue.testing as kit
from streaming_queue.comm.base import AgentHandle, BaseCommBackend, Capabilities
from streaming_queue.extras import install_command
from streaming_queue.testing.contract import CONTRACT, LINES, SECTIONS

CHECKS = {name: value for name, value in vars(kit.BackendContract).items() if name.startswith("test_")} | {
    name: value
    for part in kit.BackendContract.__mro__[1:]
    for name, value in vars(part).items()
    if name.startswith("test_")
}
HELPERS = {"about", "endpoint", "endpoints", "protocol_of", "request", "route", "name", "schemes", "socket_schemes"}
"""What a backend is given by its base, rather than what it promises."""


def test_the_public_names_are_a_decision() -> None:
    assert kit.__all__ == [
        "CONTRACT",
        "KIT_VERSION",
        "SECTIONS",
        "Agent",
        "BackendContract",
        "Echo",
        "Gate",
        "Line",
        "Relay",
        "Stubborn",
        "message",
        "soon",
    ]


def test_every_line_is_checked_and_every_check_holds_a_line() -> None:
    assert {check.contract_line.id for check in CHECKS.values()} == set(CONTRACT)


def test_no_check_hides_another() -> None:
    names = Counter(name for part in kit.BackendContract.__mro__ for name in vars(part) if name.startswith("test_"))
    assert [name for name, count in names.items() if count > 1] == []


def test_an_id_is_one_lines_own_and_names_its_section() -> None:
    assert len(CONTRACT) == len(LINES)
    assert list(dict.fromkeys(line.section for line in LINES)) == list(SECTIONS)
    for section in SECTIONS:
        numbers = [int(line.id.rpartition("-")[2]) for line in LINES if line.section == section]
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_lines_are_those_of_the_seam_and_leave_none_of_its_promises_out() -> None:
    promised = {name for name in vars(BaseCommBackend) if not name.startswith("_")} - HELPERS
    handles = {f"handle.{name}" for name in ("stop", "drain") if hasattr(AgentHandle, name)}
    assert {line.of for line in LINES} == promised | handles


def test_what_a_line_needs_can_be_claimed_or_given() -> None:
    known = {"host", "echo", "agent"} | {field.name for field in fields(Capabilities)}
    assert {need for line in LINES for need in line.needs} <= known


@pytest.mark.parametrize("missing", ["pytest", "pytest_asyncio"])
def test_without_its_extra_it_says_what_to_install(missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; import streaming_queue.testing"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "BackendNotInstalledError" in last
    assert repr(missing) in last
    assert install_command("testing") in last
