"""How questions end, and the record of their ends, for both engines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import MappingProxyType

import pytest
from unit.queue.writer import handed_over

from streaming_queue.errors import ConfigError, LeaseLostError, QueueClosedError, QueueError
from streaming_queue.messages import Counts, Question


async def leases_of(queue, count):
    await queue.put([Question(f"question {number}", f"q{number}", f"r{number}") for number in range(count)])
    return await queue.lease(count)


async def test_an_answer_is_recorded_as_it_was_given(queue, result):
    (lease,) = await leases_of(queue, 1)
    given = result("answer “🙂”\0\x1b")
    assert await queue.commit(lease, given) is True
    (outcome,) = await queue.results()
    assert outcome.result == given
    assert outcome.question == Question("question 0", "q0", "r0")
    assert (outcome.number, outcome.attempts, outcome.failure) == (1, 1, None)
    assert outcome.row()["status"] == "success"
    assert await queue.counts() == Counts(done=1)


async def test_only_the_first_of_many_answers_counts(queue, result):
    (lease,) = await leases_of(queue, 1)
    firsts = await asyncio.gather(*(queue.commit(lease, result(f"answer {number}")) for number in range(50)))
    assert sum(firsts) == 1
    (outcome,) = await queue.results()
    assert outcome.result.answer == f"answer {firsts.index(True)}"
    assert (await queue.stats())["late_duplicates_rejected"] == 49
    assert [entry.outcome for entry in await queue.attempts("q0")] == ["answered"] + ["late"] * 49


async def test_an_answer_needs_no_current_fence(queue, clock, result, failure):
    old, given_back, delayed = await leases_of(queue, 3)
    clock.advance(61)
    (new, back, late) = await queue.lease(3)
    await queue.release(back)
    await queue.retry(late, 1000, failure())
    assert await queue.commit(old, result("from the old"))
    assert await queue.commit(given_back, result("while ready"))
    assert await queue.commit(delayed, result("while delayed"))
    assert not await queue.commit(new, result("from the new"))
    clock.advance(2000)
    assert await queue.lease(3) == []
    assert [outcome.result.answer for outcome in await queue.results()] == [
        "from the old",
        "while ready",
        "while delayed",
    ]
    assert [outcome.attempts for outcome in await queue.results()] == [1, 1, 1]
    assert await queue.counts() == Counts(done=3)
    assert await queue.revision() == 0


async def test_an_answer_to_a_delayed_question_delays_no_other(queue, result, failure):
    (lease,) = await leases_of(queue, 1)
    await queue.retry(lease, 1000, failure())
    assert await queue.commit(lease, result())
    await queue.put([Question("next", "next")])
    assert [lease.id for lease in await queue.lease(1)] == ["next"]


async def test_a_dead_letter_has_its_failure(queue, failure):
    (first, second) = await leases_of(queue, 2)
    await queue.retry(first, 0, failure())
    (again,) = await queue.lease(1)
    await queue.bury(again, failure("AgentFailedError", "it fell over"))
    await queue.bury(second, failure())
    dead = await queue.dead()
    assert [outcome.question.id for outcome in dead] == ["q0", "q1"]
    assert [(outcome.number, outcome.attempts) for outcome in dead] == [(1, 2), (2, 1)]
    assert dead[0].failure == failure("AgentFailedError", "it fell over")
    assert dead[0].result is None
    assert await queue.dead(1) == dead[:1]
    assert await queue.results() == dead
    assert await queue.counts() == Counts(dead=2)
    assert await queue.lease(1) == []


async def test_a_late_answer_revives_a_dead_letter(queue, result, failure):
    dead, other = await leases_of(queue, 2)
    await queue.bury(dead, failure())
    await queue.commit(other, result())
    assert await queue.revision() == 0
    assert await queue.commit(dead, result("late but first"))
    assert await queue.revision() == 1
    assert await queue.dead() == []
    (newest,) = await queue.results(after=2)
    assert (newest.number, newest.question.id, newest.failure) == (3, "q0", None)
    assert [(outcome.number, outcome.supersedes) for outcome in await queue.results()] == [(2, None), (3, 1)]
    assert await queue.counts() == Counts(done=2)
    assert [entry.outcome for entry in await queue.attempts("q0")] == ["buried", "answered"]


async def test_results_are_read_in_pages(queue, result):
    for lease in await leases_of(queue, 150):
        await queue.commit(lease, result(lease.id))
    pages, after = [], 0
    while page := await queue.results(after, 70):
        pages.append(len(page))
        assert [outcome.number for outcome in page] == list(range(after + 1, after + 1 + len(page)))
        after = page[-1].number
    assert pages == [70, 70, 10]
    assert await queue.results(0, 0) == []


async def test_the_history_of_a_question(queue, clock, result, failure):
    (lease,) = await leases_of(queue, 1)
    await queue.retry(lease, 0, failure())
    (lease,) = await queue.lease(1)
    await queue.release(lease)
    (lease,) = await queue.lease(1)
    await queue.release(lease, failure=failure("ConnectError", "worker gone"))
    await queue.lease(1)
    clock.advance(61)
    (lease,) = await queue.lease(1)
    await queue.commit(lease, result(worker="Worker-2"))
    await queue.commit(lease, result(worker="Worker-3"))
    history = await queue.attempts("q0")
    assert [(entry.outcome, entry.attempt, entry.fence, entry.worker) for entry in history] == [
        ("retried", 1, 1, "Worker-1"),
        ("released", 2, 2, None),
        ("lost", 2, 3, "Worker-1"),
        ("lost", 2, 4, None),
        ("answered", 2, 5, "Worker-2"),
        ("late", 2, 5, "Worker-3"),
    ]
    assert history[0].failure == failure()
    assert history[0].ended - history[0].started == pytest.approx(0.25, abs=0.001)
    assert history[4].ended - history[4].started == pytest.approx(0.3, abs=0.001)
    assert (history[1].started, history[1].failure) == (None, None)
    assert await queue.attempts("unknown") == []


async def test_replay_makes_dead_letters_ready_and_forgets_their_attempts(queue, result, failure):
    first, second, third = await leases_of(queue, 3)
    await queue.release(first, failure=failure())
    (first,) = await queue.lease(1)
    for lease, kind in ((first, "AuthError"), (second, "ConnectError"), (third, "ConnectError")):
        await queue.bury(lease, failure(kind))
    assert await queue.replay(ids=["q0", "q1", "q0", "unknown"], failure_type="ConnectError") == 1
    assert await queue.replay(ids=[]) == 0
    assert await queue.replay(failure_type="TimeoutError") == 0
    assert await queue.replay() == 2
    assert await queue.replay() == 0
    assert await queue.revision() == 3
    assert [(row.question.id, row.status, row.number, row.supersedes) for row in await queue.results()] == [
        ("q1", "open", 4, 2),
        ("q0", "open", 5, 1),
        ("q2", "open", 6, 3),
    ]
    again = await queue.lease(3)
    assert [(lease.id, lease.attempt) for lease in again] == [("q0", 1), ("q1", 1), ("q2", 1)]
    assert again[0].losses == 0
    await queue.release(again[0])
    queue.sent(again[1])
    await queue.commit(again[1], result())
    assert [(row.number, row.supersedes) for row in await queue.results()] == [(5, 1), (6, 3), (7, 4)]
    assert [entry.outcome for entry in await queue.attempts("q1")] == ["buried", "answered"]
    assert (await queue.stats())["re_executions"] == 1


async def test_purge_deletes_dead_letters_only(queue, result, failure):
    first, second, third = await leases_of(queue, 3)
    await queue.bury(first, failure("AuthError"))
    await queue.bury(second, failure())
    assert await queue.purge(ids=["q0", "q2"]) == 1
    assert await queue.purge(failure_type="AuthError") == 0
    assert await queue.purge(failure_type="ConnectError") == 1
    assert await queue.counts() == Counts(leased=1)
    assert await queue.attempts("q0") == []
    assert await queue.revision() == 2
    first_gone, second_gone = [outcome.row() for outcome in await queue.results()]
    assert (first_gone["question_id"], first_gone["status"], first_gone["question"]) == ("q0", "purged", None)
    assert (second_gone["question_id"], second_gone["status"], second_gone["answer"]) == ("q1", "purged", None)
    assert await queue.commit(first, result()) is False
    with pytest.raises(LeaseLostError):
        await queue.retry(first, 0, failure())
    assert (await queue.put([Question("question 0", "q0"), Question("x", "q2")])).renamed == (("q2", "q2#2"),)
    assert await queue.commit(first, result()) is False
    assert [lease.id for lease in await queue.lease(3)] == ["q0", "q2#2"]
    assert await queue.commit(third, result())


async def test_every_record_has_a_cursor_of_its_own_and_names_the_one_it_replaces(make_queue, result, failure):
    queue, other = await make_queue(), await make_queue()
    seen = {}
    after = ""

    async def read():
        nonlocal after
        for row in [outcome.row() for outcome in await queue.results(await queue.number_of(after))]:
            assert row["cursor"] not in seen
            assert row["supersedes"] is None or seen[row["supersedes"]] == row["question_id"]
            seen[row["cursor"]] = row["question_id"]
            after = row["cursor"]

    answered, purged, replayed, late = await leases_of(queue, 4)
    await queue.commit(answered, result())
    for lease in (purged, replayed, late):
        await queue.bury(lease, failure())
    await read()
    await queue.purge(ids=["q1"])
    await queue.replay(ids=["q2"])
    await read()
    await queue.commit(late, result())
    (again,) = await queue.lease(1)
    await queue.commit(again, result())
    await read()
    assert list(seen.values()) == ["q0", "q1", "q2", "q3", "q1", "q2", "q3", "q2"]
    assert await queue.number_of("") == 0
    (lease,) = await leases_of(other, 1)
    await other.commit(lease, result())
    (foreign,) = await other.results()
    newer = after.replace("-8", "-9")
    for wrong in (foreign.row()["cursor"], newer, "8", "no cursor", f"{after} ", after.replace("-8", "-0")):
        with pytest.raises(ConfigError):
            await queue.number_of(wrong)


async def test_a_purged_id_is_the_first_free_one_again(queue, failure):
    await queue.put([Question(f"text {number}", "q") for number in range(4)])
    leases = await queue.lease(4)
    await queue.bury(leases[1], failure())
    await queue.purge()
    assert (await queue.put([Question("new", "q"), Question("newer", "q")])).renamed == (("q", "q#2"), ("q", "q#5"))


async def test_what_json_cannot_hold_does_not_lose_the_answer(queue, result, failure):
    first, second = await leases_of(queue, 2)
    odd = replace(result("lone \ud800 surrogate"), usage=MappingProxyType({"n": 2**70, "o": object(), "l": [{1, 2}]}))
    assert await queue.commit(first, odd)
    await queue.bury(second, failure("AgentFailedError", "odd \udfff text"))
    answered, dead = await queue.results()
    assert "surrogate" in answered.result.answer
    assert answered.result.response_time_s == odd.response_time_s
    assert "odd" in dead.failure.message


async def test_a_lease_of_another_queue_cannot_be_committed(queue, result):
    (lease,) = await leases_of(queue, 1)
    with pytest.raises(QueueError, match="not from this queue"):
        await queue.commit(replace(lease, payload=None), result())
    with pytest.raises(LeaseLostError):
        await queue.release(replace(lease, payload=None))


async def test_a_closed_queue_says_so(queue, result, failure):
    (lease,) = await leases_of(queue, 1)
    waiting = asyncio.create_task(queue.lease(1, 30))
    await handed_over(queue)
    await queue.close()
    await queue.close()
    assert await asyncio.wait_for(waiting, 5) == []
    calls = [
        lambda: queue.put([Question("x")]),
        queue.bookmark,
        lambda: queue.lease(1),
        lambda: queue.lease(0),
        lambda: queue.commit(lease, result()),
        lambda: queue.retry(lease, 0, failure()),
        lambda: queue.release(lease),
        lambda: queue.bury(lease, failure()),
        lambda: queue.extend(lease),
        queue.counts,
        queue.results,
        queue.revision,
        queue.dead,
        lambda: queue.attempts("q0"),
        queue.stats,
        queue.replay,
        queue.purge,
    ]
    for call in calls:
        with pytest.raises(QueueClosedError):
            await call()
    for change in (queue.pause, queue.resume):
        with pytest.raises(QueueClosedError):
            change()


async def test_dead_letters_are_found_by_page_by_type_and_by_id(queue, result, failure):
    leases = await leases_of(queue, 5)
    for lease, type_ in zip(leases, ("ConnectError", "AgentFailedError", "ConnectError"), strict=False):
        await queue.bury(lease, failure(type_))
    await queue.commit(leases[3], result())
    first, second, third = await queue.dead()
    assert await queue.dead(1) == [first]
    assert await queue.dead(after=first.number) == [second, third]
    assert await queue.dead(1, after=first.number, failure_type="ConnectError") == [third]
    assert await queue.dead(failure_type="AuthError") == []
    assert list((await queue.reasons()).items()) == [("ConnectError", 2), ("AgentFailedError", 1)]
    assert await queue.dead(0) == await queue.results(0, 0) == []
    assert await queue.dead_letter("q1") == second
    assert await queue.dead_letter("q3") is None  # it was answered
    assert await queue.dead_letter("nobody") is None
