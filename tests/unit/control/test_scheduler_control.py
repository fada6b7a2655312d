from __future__ import annotations

import asyncio
import os

import pytest
from unit.control.runs import HOSTILE, ids

from streaming_queue.errors import ConfigError
from streaming_queue.messages import Failure
from streaming_queue.telemetry.events import Continued, Notice, Paused, Purged, Replayed


async def test_the_figures(control, directory):
    assert await control.stats() == {
        "run_id": directory.run_id,
        "directory": str(directory.path),
        "state": "running",
        "pid": os.getpid(),
        "counts": {"ready": 1, "leased": 0, "done": 1, "dead": 4, "total": 6},
        "reasons": {"AgentFailedError": 2, "ConnectError": 2},
        "stats": {"re_executions": 0, "leases_taken_ahead": 0, "late_duplicates_rejected": 0, "losses": 0},
        "intake": {"complete": True, "questions": 6, "skipped": 0, "duplicates": 0},
    }


async def test_a_repeated_command_acts_and_is_emitted_once(control, steered, events, directory):
    for _ in range(2):
        assert (await control.pause())["state"] == "paused"
    for _ in range(2):
        assert (await control.resume())["state"] == "running"
    for _ in range(2):
        assert (await control.drain())["state"] == "draining"
    assert steered.draining
    assert events[:2] == [Paused(str(directory.path)), Continued()]
    assert [type(event) for event in events[2:]] == [Notice]


async def test_dead_letters_come_by_pages(control):
    page = await control.dead_letters(limit=3)
    assert ids(page) == ["q1", "q2", "q3"]
    assert page["total"] == 4
    rest = await control.dead_letters(limit=3, after=page["next"])
    assert (ids(rest), rest["next"]) == (["q4"], None)
    chosen = await control.dead_letters(reason="ConnectError")
    assert (ids(chosen), chosen["total"], chosen["next"]) == (["q1", "q3"], 2, None)
    assert ids(await control.dead_letters(reason="AuthError")) == []
    letter = page["dead_letters"][0]
    assert letter | {"timestamp": None} == {
        "number": 2, "question_id": "q1", "reason": "ConnectError", "message": HOSTILE, "worker": "Worker-1",
        "protocol": "a2a", "attempts": 1, "timestamp": None,
    }  # fmt: skip


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_page_has_its_bounds(control, limit):
    with pytest.raises(ConfigError, match=f"1 to 1000 dead letters, not {limit}"):
        await control.dead_letters(limit=limit)


async def test_a_wrong_reason_names_the_known_ones(control, queue):
    for ask in (control.dead_letters, control.replay, control.purge):
        with pytest.raises(
            ConfigError, match=r"'Typo'. Types in this run: AgentFailedError, ConnectError\. .* BadResponseError,"
        ):
            await ask(reason="Typo")
    assert (await queue.counts()).dead == 4


async def test_a_type_that_only_a_backend_knows_is_one_where_it_is_there(control, queue):
    (lease,) = await queue.lease(1)
    await queue.bury(lease, Failure("OddError", "odd"))
    assert ids(await control.dead_letters(reason="OddError")) == ["q5"]


async def test_one_dead_letter_in_full_with_its_attempts(control):
    letter = await control.dead_letter("q2")
    assert (letter["question"], letter["reference"], letter["reason"]) == ("question 2", "r2", "AgentFailedError")
    (attempt,) = letter["history"]
    assert (attempt["attempt"], attempt["outcome"], attempt["worker"]) == (1, "buried", "Worker-1")
    assert attempt["error"] == {"type": "AgentFailedError", "message": HOSTILE}
    assert attempt["started"] < attempt["ended"]
    for wrong in ("q0", "nobody"):
        with pytest.raises(ConfigError, match=f"'{wrong}' is not a dead letter.*stq dlq list"):
            await control.dead_letter(wrong)


async def test_replay_and_purge_change_the_queue_and_emit_events(control, queue, events):
    assert await control.replay(reason="ConnectError") == 2
    assert await control.purge(ids=["q2", "q0"]) == 1
    assert await control.purge(ids=["q0"]) == await control.replay(ids=[]) == 0
    counts = await queue.counts()
    assert (counts.ready, counts.dead, counts.total) == (3, 1, 5)
    assert events == [Replayed(2), Purged(1)]


async def test_a_run_ends_only_when_nothing_was_put_back_and_then_nothing_can_be(control, queue):
    (lease,) = await queue.lease(1)
    await queue.bury(lease, Failure("AuthError", "no"))
    replayed, may_end = await asyncio.gather(control.replay(reason="AuthError"), control.retire())
    assert (replayed, may_end) == (1, False)
    (lease,) = await queue.lease(1)
    await queue.bury(lease, Failure("AuthError", "no"))
    assert await control.retire()
    for change in (control.replay, control.purge):
        with pytest.raises(ConfigError, match="the report is being written: try again after it"):
            await change()
    assert (await queue.counts()).dead == 5
