"""The pool by itself, in virtual time: when it probes, whom it leaves alone, what it tells."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from unit.core.pool_in_virtual_time import PoolInVirtualTime as Bench
from unit.core.virtual_loop import virtually

from streaming_queue.comm.probing import StartingError
from streaming_queue.errors import (
    AuthError,
    BackendClosedError,
    ConfigError,
    ConnectError,
    ProtocolError,
    QuotaError,
    RateLimitedError,
    RemoteError,
    UnknownAgentError,
    UnreachableError,
)
from streaming_queue.telemetry.events import Notice, WorkerDown, WorkerUp

LOST = ConnectError("refused")
BAD = ProtocolError("garbage")


# --- lost and back ---


@virtually
async def test_two_good_probes_in_a_row_bring_a_worker_back() -> None:
    bench = Bench(probe_interval_s=1.0)
    bench.finds["A"] = [False, True, False, True, True]
    bench.pool.lost("A", LOST)
    await bench.at(2.9)
    assert not bench.is_up("A")
    await bench.at(10)
    assert bench.probes == [(0.5, "A"), (1.5, "A"), (1.75, "A"), (2.75, "A"), (3.0, "A")]
    assert bench.told(WorkerDown, WorkerUp) == [WorkerDown("A", str(LOST)), WorkerUp("A")]
    assert bench.is_up("A")


@virtually
async def test_a_worker_that_is_lost_again_and_again_without_an_answer_is_probed_later_each_time() -> None:
    bench = Bench(probe_interval_s=1.0)
    bench.finds["A"] = [True]
    pauses = []
    for _ in range(8):
        began = bench.now
        bench.pool.lost("A", LOST)
        bench.pool.lost("A", LOST)  # known already
        bench.probes.clear()
        await bench.pool.changed(100)
        pauses.append(bench.probes[0][0] - began)
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30])
    bench.pool.answered("A", 0.1)
    began = bench.now
    bench.pool.lost("A", LOST)
    await bench.pool.changed(100)
    assert bench.now - began == pytest.approx(0.75)


@virtually
async def test_a_probe_without_an_answer_has_a_second() -> None:
    bench = Bench(probe_interval_s=1.0)

    async def hang(worker: str) -> bool:
        await asyncio.sleep(1000)
        return True

    bench.probing = hang
    bench.pool.lost("A", LOST)
    await bench.at(5)
    assert bench.probes == [(0.5, "A"), (2.5, "A"), (4.5, "A")]
    bench.pool.stop()
    await bench.at(50)
    assert len(bench.probes) == 3


@virtually
async def test_the_questions_of_a_worker_without_a_sign_of_life_are_given_up() -> None:
    bench = Bench(probe_interval_s=1.0, gone_after_s=3.0)
    bench.finds["A"] = [False, False, False, True, False]
    await bench.at(1)
    bench.asked("A")
    await bench.at(2)
    bench.asked("A")  # the first is under way still: this is no sign of life
    bench.pool.lost("A", LOST)
    bench.pool.lost("B", LOST)
    await bench.at(7)
    assert [(moment, worker) for moment, worker, _ in bench.gone] == [(4.5, "A"), (5.75, "A"), (6.75, "A")]
    assert {type(error) for _, _, error in bench.gone} == {ConnectError}
    assert "'A'" in str(bench.gone[0][2])
    bench.left("A")
    bench.left("A")
    await bench.at(20)
    assert len(bench.gone) == 3, "it has none left"
    bench.pool.stop()


@virtually
async def test_a_worker_whose_questions_were_given_up_comes_back() -> None:
    bench = Bench(probe_interval_s=1.0, gone_after_s=0.0)
    bench.finds["A"] = [False, True]
    bench.asked("A")
    bench.pool.lost("A", LOST)
    await bench.at(3)
    assert [worker for _, worker, _ in bench.gone] == ["A"]
    assert bench.is_up("A")


@virtually
async def test_since_when_all_are_down() -> None:
    bench = Bench(probe_interval_s=1.0)
    bench.pool.lost("A", LOST)
    assert bench.all_down_since is None
    await bench.at(0.25)
    bench.pool.lost("B", LOST)
    assert bench.all_down_since == 0.25
    await bench.at(3)
    assert bench.all_down_since == 0.25, "it is told once"
    bench.finds["B"] = [True]
    await bench.at(6)
    assert bench.all_down_since is None
    assert bench.pool.up == ["B"]
    bench.pool.stop()


@virtually
async def test_a_paused_worker_is_not_down() -> None:
    bench = Bench(probe_interval_s=1.0)
    bench.pool.pause("A", 5.0, "slow down")
    bench.pool.lost("B", LOST)
    assert bench.all_down_since is None
    bench.pool.stop()


@virtually
async def test_while_a_worker_starts_no_time_without_workers_passes() -> None:
    bench = Bench({"A": 1}, probe_interval_s=1.0)

    async def starts(worker: str) -> bool:
        raise StartingError("it starts")

    bench.probing = starts
    bench.pool.lost("A", LOST)
    await bench.at(7.6)
    assert bench.all_down_since == 7.5
    bench.pool.add("B", 1)
    assert bench.all_down_since is None
    await bench.at(9)
    assert bench.all_down_since is None, "B is there"
    bench.pool.stop()


# --- paused ---


@pytest.mark.parametrize(("wish_s", "pause_s"), [(None, 1.0), (0.0, 0.1), (0.05, 0.1), (7.5, 7.5)])
def test_a_wish_to_slow_down_is_granted(wish_s: float | None, pause_s: float) -> None:
    @virtually
    async def test() -> None:
        bench = Bench()
        assert bench.pool.paused_s is None
        error = RateLimitedError("slow down", retry_after_s=wish_s)
        assert bench.fail("A", error) == [True]
        assert bench.pool.paused_s == pytest.approx(pause_s)
        assert bench.told(WorkerDown) == [WorkerDown("A", str(error))]
        assert bench.state("A") == "paused"
        await bench.pool.changed(100)
        assert bench.now == pytest.approx(pause_s)
        assert (bench.state("A"), bench.pool.paused_s) == ("up", None)
        assert bench.probes == []

    test()


@virtually
async def test_the_first_of_several_pauses_counts_and_a_second_wish_changes_nothing() -> None:
    bench = Bench()
    bench.fail("A", RateLimitedError("slow down", retry_after_s=9))
    bench.fail("A", RateLimitedError("slow down", retry_after_s=1))
    bench.fail("B", RateLimitedError("slow down", retry_after_s=5))
    await bench.at(2)
    assert bench.pool.paused_s == pytest.approx(3)
    bench.pool.stop()
    await bench.at(20)
    assert bench.pool.paused_s == 0
    assert bench.pool.up == []


# --- out ---


@pytest.mark.parametrize(
    "kind", [AuthError, QuotaError, ConfigError, UnknownAgentError, UnreachableError, BackendClosedError]
)
def test_what_no_other_question_changes_ends_it_for_good(kind: type[Exception]) -> None:
    @virtually
    async def test() -> None:
        bench = Bench()
        error = kind("no")
        assert bench.fail("A", error, 2) == [True, True]
        assert bench.told(WorkerDown) == [WorkerDown("A", str(error), final=True)]
        assert bench.state("A") == "out"
        assert bench.pool.fatal_error is None, "B is there"
        bench.fail("B", BackendClosedError("gone"))
        assert isinstance(bench.pool.fatal_error, BackendClosedError)
        await bench.at(1000)
        assert bench.pool.up == bench.probes == []

    test()


@virtually
async def test_an_expelled_worker_is_probed_no_more_and_its_pause_is_over() -> None:
    bench = Bench(probe_interval_s=1.0)
    bench.finds = {"A": [True], "B": [True]}
    bench.pool.lost("A", LOST)
    bench.fail("B", RateLimitedError("slow down", retry_after_s=3))
    for worker in ("A", "B"):
        bench.pool.expel(worker, AuthError("no"))
    assert bench.pool.paused_s is None
    await bench.at(100)
    assert bench.probes == []
    assert bench.told(WorkerUp) == []
    for worker in ("A", "B"):
        bench.pool.readmit(worker)
        bench.pool.readmit(worker)  # it is in
    assert bench.told(WorkerUp) == [WorkerUp("A"), WorkerUp("B")]
    assert bench.pool.fatal_error is None


def test_where_nobody_is_there_no_worker_is_to_blame() -> None:
    @virtually
    async def test() -> None:
        bench = Bench({"A": 1})
        bench.asked("A")
        bench.pool.remove("A")
        assert bench.pool.fatal_error is None
        assert bench.fail("A", LOST) == [True]
        assert bench.fail("A", BAD) == [False]
        bench.pool.answered("A", 1.0)
        bench.left("A")
        bench.pool.forgive("A")
        assert not bench.pool.takes("A")

    test()


# --- who is there ---


@virtually
async def test_workers_join_and_leave() -> None:
    bench = Bench(probe_interval_s=1.0)
    bench.pool.add("C", 3)
    assert (bench.changes, bench.pool.up) == (1, ["A", "B", "C"])
    assert bench.pool.states()["C"]["limit"] == 3
    bench.pool.drain("C")
    assert (bench.changes, bench.pool.up) == (2, ["A", "B"])
    assert (bench.state("C"), bench.pool.takes("C"), bench.is_up("C")) == ("draining", False, True)
    bench.pool.remove("C")
    assert (bench.changes, list(bench.pool.states())) == (3, ["A", "B"])
    bench.finds["A"] = [True]
    bench.pool.lost("A", LOST)
    bench.pool.lost("B", LOST)
    bench.pool.remove("A")
    await bench.at(0.6)
    assert bench.probes == [(0.5, "B")], "one that left is probed no more"
    bench.pool.stop()


@virtually
async def test_slots_come_in_turn_and_each_worker_has_its_own_number() -> None:
    bench = Bench({"A": 1, "B": 3, "C": 2})
    assert list(bench.pool.slots_in_turn()) == ["A", "B", "C", "B", "C", "B"]
    for worker in "ABC":
        bench.pool.remove(worker)
    assert list(bench.pool.slots_in_turn()) == []


@virtually
async def test_the_last_question_of_a_draining_worker_is_a_change() -> None:
    bench = Bench()
    bench.asked("A")
    bench.asked("A")
    bench.asked("B")
    bench.pool.drain("A")
    changes = []
    for worker in "ABA":
        before = bench.changes
        bench.left(worker)
        changes.append(bench.changes - before)
    assert changes == [0, 0, 1]


@virtually
async def test_the_last_worker_that_is_up_leaves() -> None:
    bench = Bench()
    bench.pool.lost("A", LOST)
    await bench.at(0.25)
    bench.pool.remove("B")
    assert bench.all_down_since == 0.25
    bench.pool.stop()


@virtually
async def test_what_is_told_of_each() -> None:
    bench = Bench({"A": 4, "B": 2}, probe_interval_s=1.0)
    for _ in range(3):
        bench.asked("A")
    bench.left("A")
    bench.pool.answered("A", 0.1)
    bench.pool.answered("A", 0.1)
    bench.fail("A", BAD, 2)
    bench.fail("B", LOST)
    states = bench.pool.states()
    since = states["B"].pop("since")
    assert states == {
        "A": {"state": "up", "busy": 2, "limit": 4, "answered": 2, "failed": 2, "reason": None, "since": None},
        "B": {"state": "down", "busy": 0, "limit": 2, "answered": 0, "failed": 1, "reason": str(LOST)},
    }
    told = datetime.fromisoformat(since)
    assert told.utcoffset() == timedelta(0)
    assert told.microsecond % 1000 == 0
    bench.pool.expel("B", AuthError("no"))
    assert bench.pool.states()["B"]["since"] == since, "down it was before"
    bench.pool.readmit("B")
    assert (bench.pool.states()["B"]["reason"], bench.pool.states()["B"]["since"]) == (None, None)
    bench.pool.stop()


@virtually
async def test_waiting_for_a_change_ends_with_it_or_in_time() -> None:
    bench = Bench()
    await bench.pool.changed(3)
    assert bench.now == 3
    asyncio.get_running_loop().call_later(2, bench.pool.add, "C", 1)
    await bench.pool.changed(60)
    assert bench.now == 5
    await bench.pool.changed(1)
    assert bench.now == 6, "each change is one"


# --- one that came back ---


@virtually
async def test_one_that_came_back_is_given_more_with_each_answer_while_others_can_take_the_rest() -> None:
    bench = Bench({"A": 4, "B": 4})
    assert not bench.pool.warming_up
    bench.pool.pause("A", 1.0, "slow down")
    await bench.at(1.5)
    assert bench.pool.warming_up
    assert bench.pool.states()["A"]["limit"] == 1
    assert (bench.pool.takes("A"), bench.pool.takes("A", 1)) == (True, False)
    bench.asked("A")
    assert not bench.pool.takes("A")
    before = bench.changes
    bench.pool.answered("A", 0.1)
    assert bench.changes == before + 1, "it may take more"
    assert (bench.pool.takes("A"), bench.pool.takes("A", 1)) == (True, False)
    bench.pool.drain("B")
    assert bench.pool.takes("A", 2), "nobody else takes it"
    assert not bench.pool.takes("A", 3)
    await bench.at(11.5)
    assert bench.pool.takes("A", 2)
    bench.pool.states()
    assert not bench.pool.warming_up
    assert bench.pool.takes("A", 100), "its slots are counted elsewhere"


@virtually
async def test_one_that_comes_back_again_begins_anew() -> None:
    bench = Bench({"A": 4, "B": 4})
    for _ in range(2):
        bench.pool.pause("A", 1.0, "slow down")
        await bench.pool.changed(9)
        assert bench.pool.states()["A"]["limit"] == 1
        bench.pool.answered("A", 0.1)
        bench.pool.answered("A", 0.1)
        assert bench.pool.states()["A"]["limit"] == 3


@virtually
async def test_two_that_came_back_spare_each_other_nothing() -> None:
    bench = Bench({"A": 4, "B": 4})
    for worker in ("A", "B"):
        bench.pool.pause(worker, 1.0, "slow down")
    await bench.at(2)
    assert [bench.pool.takes(worker, 3) for worker in ("A", "B")] == [True, True]


# --- one that keeps failing ---


@virtually
async def test_one_that_keeps_failing_is_left_alone_and_tried_with_one_question() -> None:
    bench = Bench({"A": 4, "B": 4})
    assert bench.fail("A", BAD, 4) == [False] * 4
    assert bench.state("A") == "up"
    bench.fail("A", BAD)
    assert bench.state("A") == "paused"
    assert bench.pool.paused_s == pytest.approx(5)
    assert str(BAD) in bench.pool.states()["A"]["reason"]
    bench.fail("A", BAD)  # one that was under way
    assert len(bench.told(WorkerDown)) == 1
    await bench.at(5.1)
    assert bench.pool.states()["A"]["limit"] == 1
    assert (bench.pool.takes("A"), bench.pool.takes("A", 1)) == (True, False)
    bench.fail("A", BAD)
    assert bench.pool.paused_s == pytest.approx(10), "for twice as long"
    await bench.at(15.2)
    before = bench.changes
    bench.pool.answered("A", 0.1)
    assert bench.changes == before + 1
    assert bench.pool.states()["A"]["limit"] == 2
    assert bench.told(Notice) == []


@virtually
async def test_a_question_that_failed_before_and_one_that_fails_elsewhere_too_are_not_held_against_a_worker() -> None:
    bench = Bench({"A": 4, "B": 4})
    bench.fail("A", BAD, 50, suspect=True)
    bench.fail("A", BAD, 4)
    bench.pool.forgive("A")
    bench.fail("A", BAD)
    assert bench.state("A") == "up"
    bench.fail("A", BAD)
    assert bench.state("A") == "paused"
    assert bench.pool.states()["A"]["failed"] == 56
    bench.pool.stop()


@virtually
async def test_half_of_those_alive_are_left_alone_at_the_most() -> None:
    bench = Bench(dict.fromkeys("ABCDE", 1))
    bench.pool.lost("E", LOST)
    for worker in "ABC":
        bench.fail(worker, BAD, 5)
    assert [bench.state(worker) for worker in "ABCD"] == ["paused", "paused", "up", "up"]
    bench.fail("A", BAD)
    await bench.at(5.5)
    bench.fail("C", BAD)
    assert bench.state("C") == "paused", "A and B are back"
    bench.pool.stop()


@virtually
async def test_the_others_that_keep_failing_are_asked_one_at_a_time_with_a_rest() -> None:
    bench = Bench({"A": 4}, degraded_pause_s=0.5)
    bench.fail("A", BAD, 4)
    assert bench.pool.takes("A", 3)
    bench.fail("A", RemoteError("no", retryable=False))
    assert bench.told(Notice) == [], "such a question would fail again, at any pace"
    assert bench.fail("A", BAD, 2) == [False, False]
    (notice,) = bench.told(Notice)
    assert notice.level == "warning"
    assert str(BAD) in notice.text
    assert (bench.pool.takes("A"), bench.pool.takes("A", 1)) == (True, False)
    before = bench.changes
    bench.asked("A")
    await bench.at(0.49)
    assert (bench.pool.takes("A"), bench.changes) == (False, before), "they rest"
    await bench.at(0.51)
    assert bench.changes == before + 1
    assert (bench.pool.takes("A"), bench.pool.takes("A", 1)) == (False, False), "it has one"
    bench.left("A")
    assert bench.pool.takes("A")
    bench.pool.answered("A", 0.1)
    assert [event.level for event in bench.told(Notice)] == ["warning", "info"]
    assert bench.changes == before + 2
    assert bench.pool.takes("A", 3)
    bench.pool.answered("A", 0.1)
    assert bench.changes == before + 2, "nothing is new"


@virtually
async def test_who_goes_down_or_away_is_asked_one_at_a_time_no_longer() -> None:
    bench = Bench({"A": 4, "B": 4, "C": 4}, probe_interval_s=1.0, degraded_pause_s=0.5)
    bench.fail("C", BAD, 5)
    assert bench.state("C") == "paused"
    bench.fail("A", BAD, 5)
    bench.fail("B", BAD, 5)
    bench.asked("A")
    bench.left("A")
    bench.pool.remove("B")
    bench.pool.add("B", 4)
    assert bench.pool.takes("B", 3)
    bench.finds["A"] = [True]
    bench.pool.lost("A", LOST)
    bench.pool.stop()
    await bench.at(10)
    assert bench.told(Notice)[1:] == []
    assert bench.pool._degraded_rate.end("A") is False


# --- how many at a time, found out ---


@virtually
async def test_how_many_it_takes_best_is_found_out() -> None:
    bench = Bench({"A": 64}, adaptive=True)
    assert bench.pool.states()["A"]["limit"] == 4
    assert (bench.pool.takes("A", 3), bench.pool.takes("A", 4)) == (True, False)
    for _ in range(4):
        bench.asked("A")
    for _ in range(4):
        bench.pool.answered("A", 0.1)
    before = bench.changes
    bench.pool.answered("A", 0.1)
    assert (bench.pool.states()["A"]["limit"], bench.changes) == (5, before + 1)
    bench.fail("A", BAD)
    assert bench.pool.states()["A"]["limit"] == 2
    for _ in range(3):
        bench.left("A")
    bench.fail("A", BAD, 3)  # they were under way, too
    bench.fail("A", BAD, suspect=True)
    assert bench.pool.states()["A"]["limit"] == 2
    bench.fail("A", RateLimitedError("slow down"))
    assert bench.pool.states()["A"]["limit"] == 1
    bench.pool.stop()
