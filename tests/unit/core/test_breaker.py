from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.core.breaker import Breaker


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
