from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.core.pool.adaptive_limit import BEGIN, AdaptiveLimit


def test_it_grows_by_one_for_each_limit_of_quick_answers() -> None:
    limit = AdaptiveLimit(64)
    for _ in range(BEGIN + 1):
        limit.answered(0.1, limit.limit)
    assert limit.limit == BEGIN + 1


def test_it_does_not_grow_while_it_is_not_used() -> None:
    limit = AdaptiveLimit(64)
    for _ in range(1000):
        limit.answered(0.1, 1)
    assert limit.limit == BEGIN


def test_a_failure_halves_it_once_for_all_that_were_under_way() -> None:
    limit = AdaptiveLimit(64)
    while limit.limit < 32:
        limit.answered(0.1, limit.limit)
    for busy in range(32, 0, -1):
        limit.failed(busy)
    assert limit.limit == 16


def test_slow_answers_make_it_smaller() -> None:
    limit = AdaptiveLimit(64)
    while limit.limit < 20:
        limit.answered(0.1, limit.limit)
    for _ in range(200):
        limit.answered(1.0, limit.limit)
    assert limit.limit < 20


def test_it_finds_what_a_worker_takes_well() -> None:
    """A worker whose answers take longer as soon as more than twelve are under way."""
    limit = AdaptiveLimit(64)
    seen = []
    for _ in range(3000):
        busy = limit.limit
        limit.answered(0.1 * max(1.0, (busy / 12) ** 2), busy)
        seen.append(busy)
    assert 10 <= sum(seen[-1000:]) / 1000 <= 30


def grown(to: int) -> AdaptiveLimit:
    limit = AdaptiveLimit(64)
    while limit.limit < to:
        limit.answered(0.1, limit.limit)
    return limit


def test_a_slow_answer_takes_a_tenth_once_for_all_that_were_under_way() -> None:
    limit = grown(20)
    limit.answered(0.2, 3)
    assert limit.limit == 20, "twice as long is not slow"
    limit.answered(0.21, 3)
    assert limit.limit == 18
    limit.answered(9.0, 2)
    limit.failed(1)
    assert limit.limit == 18, "two that were under way with it"
    limit.answered(9.0, 1)
    assert limit.limit == 16, "a third was not"
    limit.failed(0)
    assert limit.limit == 8, "and with none beside it none is spared"


def test_good_answers_use_up_what_is_spared_too() -> None:
    limit = grown(20)
    limit.failed(3)
    assert limit.limit == 10
    for _ in range(2):
        limit.answered(9.0, 1)
    assert limit.limit == 10, "two were in flight with the failure"
    limit.answered(9.0, 1)
    assert limit.limit == 9


def test_the_notion_of_a_quick_answer_follows_quicker_ones_soon_and_slower_ones_hardly() -> None:
    limit = grown(20)
    for _ in range(2):
        limit.answered(0.01, 1)  # 0.1, then 0.055, then 0.0325
    limit.answered(0.08, 1)
    assert limit.limit == 18
    limit = grown(20)
    for _ in range(20):
        limit.answered(0.19, 1)
    limit.answered(0.21, 1)
    assert limit.limit == 18, "twenty that took longer change little"
    for _ in range(4000):
        limit.answered(0.19, 1)
    before = limit.limit
    limit.answered(0.3, 1)
    assert limit.limit == before, "thousands do"


def test_there_is_no_more_than_the_most_at_the_beginning_either() -> None:
    limit = AdaptiveLimit(2)
    assert limit.limit == 2
    for _ in range(9):
        limit.answered(0.1, 2)
    assert limit.limit == 2


@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 100), st.integers(1, 64))), st.integers(1, 64))
def test_it_stays_between_one_and_the_most(steps: list, most: int) -> None:
    limit = AdaptiveLimit(most)
    for good, seconds, busy in steps:
        limit.answered(seconds, busy) if good else limit.failed(busy)
        assert 1 <= limit.limit <= most
