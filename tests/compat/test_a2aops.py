"""`a2aops` checks the agents that we host: cards, authentication, the life of a task, streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)  # the first builds the environment

OPEN_ROLES = ["worker", "coordinator"]


@pytest.fixture
def a2aops(install: Any) -> Any:
    run = install("a2aops", "a2aops>=1.1,<1.2")
    return lambda *arguments: run("a2aops", *arguments)


def findings(output: str) -> list[str]:
    """The codes of errors and warnings, as `ERROR E101 [path]: text` names them."""
    return [line.split()[1] for line in output.splitlines() if line.startswith(("ERROR", "WARNING"))]


@pytest.mark.parametrize("role", OPEN_ROLES)
def test_the_card_is_clean(a2aops: Any, agent: Any, role: str) -> None:
    checked = a2aops("card", "check", agent(role).url)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert findings(checked.stdout) == []


@pytest.mark.parametrize("role", OPEN_ROLES)
def test_what_the_card_promises_of_authentication_holds(a2aops: Any, agent: Any, role: str) -> None:
    checked = a2aops("auth", agent(role).url)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_guarded_agents_requirement_is_misread(a2aops: Any, agent: Any) -> None:
    # In 1.0 a requirement is {"schemes": {"bearer": {"list": []}}} (a2a.proto, SecurityRequirement); a2aops reads it
    # as 0.3 wrote it, {"bearer": []}, and takes "schemes" for the name of a scheme. Nothing else is found.
    url = agent("guarded").url
    assert findings(a2aops("card", "check", url).stdout) == ["W202"]
    assert findings(a2aops("auth", url).stdout) == ["E341"]
    [requirement] = json.loads(a2aops("card", "fetch", url).stdout)["securityRequirements"]
    assert list(requirement["schemes"]) == ["bearer"]


@pytest.mark.parametrize("role", [*OPEN_ROLES, "guarded"])
def test_only_the_fields_for_0_3_are_found_old(a2aops: Any, agent: Any, role: str) -> None:
    report = a2aops("compat", agent(role).url).stdout
    assert "detected card version: 1.0" in report
    # They stay: by them clients that know 0.3 only find their way.
    assert [line.split(":")[0] for line in report.splitlines() if "[✗]" in line] == ["[✗] legacy-fields"]


@pytest.mark.parametrize(("binding", "path"), [("jsonrpc", ""), ("rest", "/v1")])
def test_the_life_of_a_task(a2aops: Any, agent: Any, binding: str, path: str) -> None:
    # It names no version and so speaks 0.3, whose HTTP paths begin with /v1.
    worker = agent("worker")
    polled = a2aops(
        "task", "poll", worker.url + path, worker.begin(), "--binding", binding, "--interval", "0.05", "--timeout", "20"
    )
    assert polled.returncode == 0, polled.stdout + polled.stderr
    assert "completed" in polled.stdout.lower()
    assert "no violations found." in polled.stdout


@pytest.mark.parametrize("binding", ["jsonrpc", "rest"])
def test_a_task_is_followed_by_its_stream(a2aops: Any, agent: Any, binding: str) -> None:
    # It looks for the state outside of the event's envelope, so it does not see the end by itself.
    worker = agent("worker", 15_000)  # longer than the command takes to start on a busy machine
    stream = a2aops("stream", worker.url, worker.begin(), "--binding", binding, "--max-events", "3")
    assert "events=3 duplicates_skipped=0 reconnects=0" in stream.stdout, stream.stdout + stream.stderr
    assert "artifact" in stream.stdout
    assert "note:" not in stream.stdout
