from __future__ import annotations

import pytest

from streaming_queue.core.pool import worker_health
from streaming_queue.core.pool.adaptive_limit import AdaptiveLimit
from streaming_queue.core.pool.worker_health import WorkerHealth
from streaming_queue.errors import AuthError


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(worker_health, "time", clock)
    return clock


def test_its_state_in_a_word() -> None:
    worker = WorkerHealth("A")
    states = [worker.state]
    worker.up = False
    states.append(worker.state)
    worker.paused_until = 0.0
    states.append(worker.state)
    worker.out = AuthError("no")
    states.append(worker.state)
    worker.draining = True
    states.append(worker.state)
    assert states == ["up", "down", "paused", "out", "draining"]


@pytest.mark.parametrize("adaptive", [False, True])
def test_one_that_came_back_has_a_tenth_more_each_second(clock: Clock, adaptive: bool) -> None:
    worker = WorkerHealth("A", 64 if adaptive else 20, adaptive=AdaptiveLimit(64) if adaptive else None)
    whole = 4 if adaptive else 20
    assert worker.limit(spared=True) == whole
    worker.began_anew = clock.now
    limits = []
    for second in range(10):
        clock.now = 100.0 + second
        limits.append(worker.limit(spared=True))
        assert worker.limit(spared=False) == whole
    assert limits == ([1, 1, 1, 2, 2, 2, 3, 3, 4, 4] if adaptive else [1, 2, 4, 6, 8, 10, 12, 14, 16, 18])
    clock.now = 110.0
    assert worker.limit(spared=True) == whole
    assert worker.began_anew is None


def test_one_on_trial_has_one_question_whoever_else_is_there(clock: Clock) -> None:
    worker = WorkerHealth("A", 8, began_anew=clock.now, proven=5)
    assert worker.limit(spared=True) == 6
    worker.breaker.open()
    assert worker.limit(spared=True) == worker.limit(spared=False) == 1
