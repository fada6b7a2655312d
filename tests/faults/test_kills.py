"""kill -9 of a coordinator, again and again, at any moment of one run."""

from __future__ import annotations

import random

import pytest
from e2e.waiting import until

SLOTS, AHEAD = 32, 64
"""Questions in flight at the most, and leased beside them so that no slot waits."""

FEW, MANY = (5, 1000), (50, 20_000)
"""Kills and questions."""


@pytest.mark.parametrize("size", [FEW, pytest.param(MANY, marks=[pytest.mark.faults, pytest.mark.timeout(900)])])
def test_nothing_is_lost_nothing_twice_and_no_more_is_asked_again_than_was_under_way(
    stq, history, worker, agents, size
) -> None:
    """The worker outlives the coordinators, and counts what it is asked."""
    (kills, count), chance = size, random.Random(7)
    served = worker("--executor", "agents_of_others:Counted", "-s", f"qa.worker.concurrency={SLOTS}", protocol="http")
    arguments = ["run", "-q", str(stq.questions(count)), "-p", "http", "-o", "run", "-c", str(SLOTS)]
    arguments += ["-s", f"qa.worker.endpoints=[{served.address}]"]
    for kill in range(kills):
        process = stq.start(*arguments)
        if kill % 5:
            more = history.look() + chance.randrange(2, count // (2 * kills))
            until(lambda more=more: history.look() >= more)
        else:  # before, or as, it writes its first row
            started = stq.directory / "run" / ("queue.db" if kill else "run.json")
            until(started.exists)
        process.kill()
        process.communicate(timeout=60)
        if (stq.directory / "run" / "queue.db").exists():
            arguments = ["resume", "run"]
    done = stq(*arguments)
    figures = history.check(done.returncode, count=count)
    executed = (stq.directory / "runs.txt").read_bytes().count(b"\n")
    assert count <= executed <= count + SLOTS * kills
    # A kill comes between a send and its record, and between the record and the agent.
    assert abs(executed - count - figures["re_executions"]) <= SLOTS * kills
    assert 0 < figures["leases_taken_ahead"] <= AHEAD * kills
    assert {row["attempts"] for row in stq.rows()} == {1}
    assert stq.manifest()["summary"]["answered"] == count
