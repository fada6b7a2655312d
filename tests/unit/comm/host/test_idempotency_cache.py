from __future__ import annotations

import pytest

from streaming_queue.comm.host import idempotency_cache
from streaming_queue.comm.host.idempotency_cache import KEPT_S, ExpiringCache, IdempotencyCache
from streaming_queue.messages import MESSAGE


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answer(text: str) -> dict[str, str]:
    return {"type": MESSAGE, "data": text}


def test_an_answer_is_found_by_its_key_until_its_time_is_over():
    clock = Clock()
    answers = IdempotencyCache(clock)
    answers.keep((None, "k"), "q", answer("a"))
    clock.now = KEPT_S - 1
    assert answers.get((None, "k")) == ("q", answer("a"))
    assert answers.get(("somebody", "k")) is None
    clock.now = KEPT_S
    assert answers.get((None, "k")) is None
    assert len(answers) == 0


def test_what_is_too_old_goes_when_something_new_comes():
    clock = Clock()
    answers = IdempotencyCache(clock)
    answers.keep((None, "old"), "q", answer("a"))
    clock.now = KEPT_S
    answers.keep((None, "new"), "q", answer("a"))
    assert len(answers) == 1


def test_the_oldest_go_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(idempotency_cache, "MAX_ANSWERS", 3)
    answers = IdempotencyCache()
    for number in range(5):
        answers.keep((None, str(number)), "q", answer("a"))
    assert [answers.get((None, str(number))) is not None for number in range(5)] == [False, False, True, True, True]


def test_the_oldest_go_where_they_are_too_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(idempotency_cache, "MAX_CHARACTERS", 100)
    answers = IdempotencyCache()
    answers.keep((None, "a"), "q", answer("x" * 60))
    answers.keep((None, "a"), "q", answer("x" * 70))
    answers.keep((None, "b"), "q", answer("x" * 20))
    assert len(answers) == 2
    answers.keep((None, "c"), "q", answer("x" * 50))
    assert answers.get((None, "a")) is None
    answers.keep((None, "d"), "q", answer("x" * 101))
    assert len(answers) == 0


def test_values_fill_the_whole_size_also_after_a_clear():
    cache = ExpiringCache[str, str](3, max_size=10)
    for _ in range(2):
        cache.put("a", "x", 4)
        cache.put("b", "y", 6)
        cache.put("c", "z")
        assert list(cache.items()) == [("a", "x"), ("b", "y"), ("c", "z")]
        assert cache.size == 10
        cache.clear()
        assert (cache.size, list(cache.items())) == (0, [])
