from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.core.scheduling.retry_budget import WINDOW_S, RetryBudget


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_a_storm_a_retry_need_not_wait() -> None:
    budget = RetryBudget(clock=Clock())
    assert [budget.reserve() for _ in range(30)] == [0.0] * 30


def test_beyond_it_retries_wait_for_their_turn() -> None:
    budget = RetryBudget(clock=Clock())
    waits = [budget.reserve() for _ in range(90)]
    assert waits == [0.0] * 30 + [10.0] * 30 + [20.0] * 30


def test_a_tenth_of_what_is_asked_may_be_retried_beside_them() -> None:
    budget = RetryBudget(clock=Clock())
    for _ in range(1000):
        budget.asked()
    assert [budget.reserve() for _ in range(131)].count(0.0) == 130


def test_what_was_asked_is_forgotten_after_ten_seconds() -> None:
    clock = Clock()
    budget = RetryBudget(clock=clock)
    for _ in range(1000):
        budget.asked()
    clock.now += WINDOW_S + 1
    assert budget.allowed == 30


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=60),
    st.floats(0, 0.5),
    st.floats(0.1, 5),
)
def test_in_no_ten_seconds_are_there_more_than_allowed(steps: list, share: float, per_s: float) -> None:
    clock = Clock()
    budget = RetryBudget(share=share, per_s=per_s, clock=clock)
    moments: list[tuple[float, int]] = []
    for pause_s, asked, retried in steps:
        clock.now += pause_s
        for _ in range(asked):
            budget.asked()
        moments += [(clock.now + budget.reserve(), budget.allowed) for _ in range(retried)]
    most = max((allowed for _, allowed in moments), default=0)
    for moment, _ in moments:
        assert sum(1 for other, _ in moments if moment - WINDOW_S + 1e-6 < other <= moment) <= most
