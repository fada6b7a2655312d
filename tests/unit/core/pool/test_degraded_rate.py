from __future__ import annotations

from streaming_queue.core.pool.degraded_rate import LONGEST_S, PAUSE_S, DegradedRate


def test_a_worker_of_normal_speed_is_not_limited() -> None:
    degraded_rate = DegradedRate()
    assert degraded_rate.takes("a", 100)
    assert degraded_rate.asked("a") is None
    assert not degraded_rate.end("a")


def test_one_question_at_a_time_and_a_pause_for_all_slow_workers() -> None:
    degraded_rate = DegradedRate()
    assert degraded_rate.begin("a")
    assert not degraded_rate.begin("b")
    assert not degraded_rate.begin("a")
    assert degraded_rate.takes("a", 0)
    assert not degraded_rate.takes("a", 1)
    assert degraded_rate.asked("a") == 2 * PAUSE_S
    assert not degraded_rate.takes("b", 0)
    assert degraded_rate.takes("c", 7)
    degraded_rate.rested()
    assert degraded_rate.takes("b", 0)


def test_two_that_were_given_a_question_in_one_moment_make_one_rest() -> None:
    degraded_rate = DegradedRate()
    degraded_rate.begin("a")
    degraded_rate.begin("b")
    assert [degraded_rate.asked("a"), degraded_rate.asked("b")] == [2 * PAUSE_S, None]


def test_an_answer_ends_it() -> None:
    degraded_rate = DegradedRate()
    degraded_rate.begin("a")
    degraded_rate.asked("a")
    assert degraded_rate.end("a")
    assert degraded_rate.takes("a", 5)
    assert degraded_rate.begin("a"), "it is the first again"
    assert not degraded_rate.takes("a", 0), "the rest is not over for that"


def test_a_large_pool_rests_two_seconds_at_the_most() -> None:
    degraded_rate = DegradedRate()
    for number in range(1000):
        degraded_rate.begin(f"w{number}")
    assert degraded_rate.asked("w0") == LONGEST_S
