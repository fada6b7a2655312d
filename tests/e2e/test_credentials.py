"""A wrong credential, whichever command shows it and over whichever protocol: 77, and the agent's own words."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from e2e.conftest import Stq
from e2e.protocols import EVERY
from e2e.waiting import until

SECRET = "open-sesame-sesame"


@dataclass
class Refusing:
    """A worker that wants a credential, the settings of a caller with a wrong one, and what the worker says then."""

    address: str
    stranger: tuple[str, ...]
    words: str


@pytest.fixture
def refusing(stq: Stq, worker, protocol: str) -> Refusing:
    if protocol == "anp":  # an identity in place of a token
        made = json.loads(stq("anp", "identity", "new", "boss", "-o", "ids/boss", "--json").stdout)
        address = worker("-s", f"anp.trusted=[{made['document']}]", protocol=protocol).address
        return Refusing(address, (), "this agent does not trust it")
    token = f"network.token={SECRET}"
    address = worker("-s", token, protocol=protocol).address
    return Refusing(address, ("-s", "network.token=a-wr0ng-one"), "the bearer credential is not valid")


@pytest.mark.parametrize("protocol", EVERY)
def test_every_command_ends_with_77_and_says_why(stq: Stq, refusing: Refusing, protocol: str) -> None:
    address, speaks = refusing.address, ("-p", protocol, *refusing.stranger)
    endpoints = f"qa.worker.endpoints=[{json.dumps(address)}]"
    for command in (
        ("run", "-q", stq.questions(2), "-o", "run", "-s", endpoints, *speaks),
        ("resume", "run", *refusing.stranger),
        ("ask", address, "q", *speaks),
        ("dispatch", address, *speaks),
        ("doctor", address, *speaks),
    ):
        done = stq(*command)
        assert (done.returncode, refusing.words in done.stdout + done.stderr) == (77, True), (command[0], done)
        assert SECRET not in done.stdout + done.stderr
    assert stq.rows() == []


@pytest.mark.parametrize("protocol", EVERY)
def test_a_worker_that_refuses_us_does_not_join(stq: Stq, held_worker, refusing: Refusing, protocol: str) -> None:
    open_worker = held_worker(free=1, protocol=protocol)
    endpoints = f"qa.worker.endpoints=[{json.dumps(open_worker.address)}]"
    process = stq.start(
        "run", "-q", str(stq.questions(3)), "-o", "run", "-p", protocol, "-c", "1", "-s", endpoints, *refusing.stranger
    )
    until(lambda: (stq.directory / "run" / "results.jsonl").exists() and len(stq.rows()) == 1)
    done = stq("workers", "add", "run", refusing.address)
    assert (done.returncode, refusing.words in done.stderr) == (77, True), done
    assert [each["id"] for each in json.loads(stq("workers", "list", "run", "--json").stdout)] == ["Worker-1"]
    stq.open_gate()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
