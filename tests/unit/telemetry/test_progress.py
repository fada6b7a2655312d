from __future__ import annotations

import pytest
from unit.telemetry.runs import Clock, answered, started

from streaming_queue.messages import Counts, Failure
from streaming_queue.telemetry.events import (
    Continued,
    DeadLettered,
    Duplicate,
    IntakeFinished,
    Notice,
    Paused,
    Purged,
    Queued,
    Replayed,
    Retried,
    RunFinished,
    Sent,
    WorkerDown,
    WorkerUp,
)
from streaming_queue.telemetry.progress import RunProgress

BROKEN = Failure("RemoteError", "it broke", "Worker-1", "a2a", 0.1)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def progress(clock):
    progress = RunProgress(clock)
    progress.apply(started())
    return progress


def feed(progress, *events):
    for event in events:
        progress.apply(event)


def test_questions_are_counted_through_their_lives(progress):
    feed(progress, Queued(3, 0, 3), Sent("a", "Worker-1", 1), Sent("b", "Worker-1", 1), Sent("c", "Worker-2", 1))
    assert (progress.total, progress.in_flight, progress.workers["Worker-1"].in_flight) == (3, 3, 2)
    feed(
        progress,
        answered("a"),
        Retried("b", BROKEN, 1, counted=True),
        Sent("b", "Worker-2", 2),
        DeadLettered("b", BROKEN, 2),
    )
    first, second = progress.workers["Worker-1"], progress.workers["Worker-2"]
    assert (progress.answered, progress.failed, progress.retried, progress.in_flight) == (1, 1, 1, 1)
    assert (first.in_flight, first.answered, first.errors) == (0, 1, 2)
    assert second.in_flight == 1
    assert progress.share == pytest.approx(2 / 3)


def test_a_hedged_question_is_in_flight_twice_and_ends_once(progress):
    feed(progress, Sent("a", "Worker-1", 1), Sent("a", "Worker-2", 2))
    assert [worker.in_flight for worker in progress.workers.values()] == [1, 1]
    feed(progress, answered("a"), Duplicate("a", "Worker-2"))
    assert [worker.in_flight for worker in progress.workers.values()] == [0, 0]
    assert progress.in_flight == 0


def test_a_retry_that_names_no_worker_empties_all_that_had_it(progress):
    feed(progress, Sent("a", "Worker-2", 1), Retried("a", Failure("ConnectError", "gone"), 1, counted=False))
    assert progress.workers["Worker-2"].in_flight == 0
    assert progress.workers["Worker-2"].errors == 1


def test_means_are_of_what_was_measured(progress):
    feed(
        progress,
        answered("a", response_time_s=0.1, protocol_ms=None),
        answered("b", response_time_s=0.3, protocol_ms=4.0),
    )
    assert progress.workers["Worker-1"].mean_response_ms == pytest.approx(200)
    assert progress.workers["Worker-1"].mean_protocol_ms == 4.0
    assert progress.workers["Worker-2"].mean_response_ms is None
    assert progress.workers["Worker-2"].mean_protocol_ms is None


def test_the_eta_is_none_while_it_is_unknown(progress, clock):
    feed(progress, Queued(100, 0, 100))
    assert progress.rate() is None
    for number in range(10):
        clock.now += 1
        feed(progress, answered(f"q-{number}"))
    assert progress.rate() == pytest.approx(1.0)
    assert progress.eta_s() is None
    assert "of 100 read so far" in progress.line()
    feed(progress, IntakeFinished(100, 0, 0))
    assert progress.eta_s() == pytest.approx(90)
    assert progress.line() == "10/100 (10%), 10 answered, 0 failed, 0 in flight | 1.00/s, ETA 1:30 | 2 of 2 workers up"


def test_the_rate_follows_the_last_seconds(progress, clock):
    for second in range(60):
        clock.now += 1
        if second < 30:
            feed(progress, *(answered(f"q-{second}-{number}") for number in range(10)))
        progress.sample()
    assert progress.rate() == 0.0
    assert progress.eta_s() is None
    assert progress.history()[5] == pytest.approx(10.0)
    assert progress.history()[-1] == 0.0


def test_what_an_earlier_process_answered_is_no_speed_of_this_one(clock):
    progress = RunProgress(clock)
    progress.apply(started(resumed=True, counts=Counts(ready=50, done=940, dead=10)))
    assert (progress.settled, progress.total) == (950, 1000)
    assert progress.rate() is None
    clock.now += 2
    progress.apply(answered("q"))
    assert progress.rate() == pytest.approx(0.5)


def test_workers_go_and_come_back(progress):
    feed(progress, WorkerDown("Worker-1", "reset"), WorkerDown("Worker-2", "gone", final=True))
    assert "0 of 2 workers up" in progress.line()
    assert progress.workers["Worker-2"].final
    feed(progress, WorkerUp("Worker-1"))
    assert "1 of 2 workers up" in progress.line()


def test_the_members_of_a_pool_are_not_the_runs_own_workers(progress):
    feed(progress, WorkerDown("Worker-7", "reset"), WorkerDown("Worker-8", "reset"), WorkerUp("Worker-8"))
    assert "2 of 2 workers up" in progress.line()


def test_the_end_has_the_last_word_on_the_counts(progress):
    feed(progress, Sent("a", "Worker-1", 1), Notice("info", "nothing to count"))
    feed(progress, RunFinished("stopped", Counts(ready=1, done=2, dead=3), {}))
    assert (progress.state, progress.total, progress.answered, progress.failed) == ("stopped", 6, 2, 3)
    assert (progress.in_flight, progress.reading) == (0, False)


def test_memory_is_bounded_by_what_is_in_flight(progress, clock):
    for number in range(10_000):
        clock.now += 0.1
        feed(progress, Sent(f"q-{number}", "Worker-1", 1), answered(f"q-{number}"))
    assert progress.in_flight == 0
    assert len(progress.history()) < 60


def test_a_paused_run_says_so_and_promises_no_end(progress, clock):
    feed(progress, Queued(10, 0, 10), IntakeFinished(10, 0, 0))
    clock.now += 2
    feed(progress, answered("a"), Paused("run"))
    assert progress.line().startswith("paused, 1/10 (10%)")
    assert progress.eta_s() is None
    feed(progress, Continued())
    assert "paused" not in progress.line()
    assert progress.eta_s() is not None


def test_dead_letters_that_are_put_back_or_deleted_have_not_ended(progress, clock):
    feed(progress, Queued(10, 0, 10), *(DeadLettered(name, BROKEN, 1) for name in "abc"))
    clock.now += 3
    rate = progress.rate()
    feed(progress, Replayed(2))
    assert (progress.failed, progress.total, progress.rate()) == (1, 10, rate)
    feed(progress, Purged(1))
    assert (progress.failed, progress.total, progress.rate()) == (0, 9, rate)


def test_a_question_far_beyond_the_others_is_shown(progress, clock):
    feed(progress, Sent("q17", "Worker-3", 1), Sent("q18", "Worker-1", 1), answered("q18"))
    clock.now += 59
    assert progress.slowest() == ""
    clock.now += 253
    assert progress.slowest() == "Worker-3: q17 for 312 s"
    assert "Worker-3: q17 for 312 s" in progress.line()
    feed(progress, answered("q17"))
    assert progress.slowest() == ""


def test_where_all_questions_are_slow_none_is_shown(progress, clock):
    for number in range(3):
        feed(progress, Sent(f"q{number}", "Worker-1", 1), answered(f"q{number}", response_time_s=100.0))
    feed(progress, Sent("q9", "Worker-1", 1))
    clock.now += 300
    assert progress.slowest() == ""
