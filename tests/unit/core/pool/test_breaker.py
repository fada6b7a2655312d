from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.core.pool.breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker, times: int) -> list[bool]:
    return [breaker.failed() for _ in range(times)]


def test_five_failures_in_a_row_are_enough() -> None:
    assert fail(Breaker(Clock()), 5) == [False] * 4 + [True]


def test_a_good_answer_begins_the_row_anew() -> None:
    breaker = Breaker(Clock())
    fail(breaker, 4)
    breaker.succeeded()
    assert fail(breaker, 1) == [False]


def test_half_of_ten_answers_are_enough() -> None:
    breaker = Breaker(Clock())
    for _ in range(5):
        breaker.succeeded()
        told = breaker.failed()
    assert told


def test_failures_of_long_ago_do_not_count() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed()
        breaker.succeeded()
    clock.now += 20
    breaker.succeeded()
    assert fail(breaker, 1) == [False]


def test_half_open_one_failure_opens_it_for_twice_as_long_up_to_a_minute() -> None:
    breaker = Breaker(Clock())
    assert breaker.open() == 5
    cooldowns = []
    for _ in range(5):
        assert breaker.failed()
        cooldowns.append(breaker.open())
    assert cooldowns == [10, 20, 40, 60, 60]


def test_half_open_one_good_answer_closes_it() -> None:
    breaker = Breaker(Clock())
    breaker.open()
    breaker.failed()
    breaker.open()
    breaker.succeeded()
    assert not breaker.half_open
    assert fail(breaker, 4) == [False] * 4
    assert breaker.open() == 5


def test_what_was_the_questions_fault_is_taken_back() -> None:
    breaker = Breaker(Clock())
    fail(breaker, 4)
    breaker.forgive()
    assert fail(breaker, 2) == [False, True]


def test_one_failure_taken_back_of_none_leaves_none() -> None:
    breaker = Breaker(Clock())
    breaker.forgive()
    assert fail(breaker, 5) == [False] * 4 + [True]


def test_a_failure_taken_back_is_no_answer_either() -> None:
    breaker = Breaker(Clock())
    for _ in range(6):
        breaker.succeeded()
    fail(breaker, 4)
    breaker.forgive()
    breaker.forgive()
    breaker.succeeded()
    assert fail(breaker, 3) == [False] * 3, "seven good and five bad"
    assert fail(breaker, 2) == [False, True], "seven good and seven bad"


def test_the_last_failure_is_taken_back_whenever_it_was() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed()
        breaker.succeeded()
    clock.now = 1.0
    breaker.succeeded()
    breaker.forgive()
    assert fail(breaker, 1) == [False], "four of nine"
    assert fail(breaker, 1) == [True], "five of ten"


def test_a_window_has_ten_seconds_and_its_end_is_no_part_of_it() -> None:
    told = []
    for moment in (9.9, 10.0):
        clock = Clock()
        breaker = Breaker(clock)
        fail(breaker, 4)
        breaker.succeeded()
        clock.now = moment
        for _ in range(4):
            breaker.succeeded()
        told.append(fail(breaker, 1))
    assert told == [[True], [False]]


def test_opening_begins_anew() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fail(breaker, 4)
    breaker.open()
    assert not breaker.keeps_failing
    breaker.succeeded()
    for _ in range(4):
        breaker.succeeded()
    assert fail(breaker, 4) == [False] * 4, "four of nine; what was before it opened does not count"
    breaker.open()
    fail(breaker, 4)
    assert not breaker.keeps_failing
    fail(breaker, 1)
    assert breaker.keeps_failing


@given(st.lists(st.sampled_from(["good", "bad", "forgive", "later"])))
def test_it_never_opens_without_five_failures_or_half_of_ten(steps: list[str]) -> None:
    clock = Clock()
    breaker = Breaker(clock)
    bad = 0
    for step in steps:
        if step == "good":
            breaker.succeeded()
        elif step == "forgive":
            breaker.forgive()
        elif step == "later":
            clock.now += 3
        else:
            bad += 1
            assert not breaker.failed() or bad >= 5
