from __future__ import annotations

from streaming_queue.core.scheduling.hedging import LEAST, Hedging


def known(hedging: Hedging, answers: int, seconds: float = 0.2) -> Hedging:
    for _ in range(answers):
        hedging.asked(duplicate=False)
        hedging.answered(seconds)
    return hedging


def test_nothing_is_slow_before_it_is_known_what_is_usual() -> None:
    assert known(Hedging(), LEAST - 1).after_s() is None


def test_twice_the_median_is_slow() -> None:
    hedging = known(Hedging(), 20)
    hedging.answered(60.0)
    assert hedging.after_s() == 0.4


def test_duplicates_are_a_twentieth_of_the_questions_at_the_most() -> None:
    hedging = known(Hedging(), 400)
    for _ in range(20):
        assert hedging.after_s() is not None
        hedging.asked(duplicate=True)
    assert hedging.after_s() is None
    assert hedging.duplicates == 20


def test_a_small_round_may_have_a_few() -> None:
    hedging = known(Hedging(), 10)
    for _ in range(LEAST):
        hedging.asked(duplicate=True)
    assert hedging.after_s() is None
