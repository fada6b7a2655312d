from __future__ import annotations

import pytest

from streaming_queue.comm.client import reconnect as module
from streaming_queue.comm.client.reconnect import HELD_S, Reconnect


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def passes(recovery: Reconnect, clock: Clock, held_s: float, error: Exception | None = None) -> bool:
    try:
        with recovery:
            clock.now += held_s
            raise error or ConnectionResetError
    except (ConnectionResetError, ValueError):
        return False
    return True


def is_reset(error: BaseException) -> bool:
    return isinstance(error, ConnectionResetError)


def test_a_broken_connection_passes_once(clock: Clock) -> None:
    recovery = Reconnect(keyed=True, broken=is_reset)
    assert [passes(recovery, clock, 0.0) for _ in range(3)] == [True, False, False]


def test_and_once_more_after_each_that_held_for_a_second(clock: Clock) -> None:
    recovery = Reconnect(keyed=True, broken=is_reset)
    held = [HELD_S + 0.5, HELD_S + 0.5, 0.5, HELD_S + 0.5, HELD_S, HELD_S]
    assert [passes(recovery, clock, seconds) for seconds in held] == [True, True, True, True, True, False]


@pytest.mark.parametrize("held_s", [0.0, HELD_S + 0.1])
def test_without_a_key_or_a_break_nothing_passes(clock: Clock, held_s: float) -> None:
    assert not passes(Reconnect(keyed=False, broken=is_reset), clock, held_s)
    recovery = Reconnect(keyed=True, broken=is_reset)
    assert not passes(recovery, clock, held_s, ValueError())
    assert passes(recovery, clock, 0.0), "it is left"


def test_a_block_that_ends_well_takes_nothing(clock: Clock) -> None:
    recovery = Reconnect(keyed=True, broken=is_reset)
    with recovery:
        clock.now += 1
    assert passes(recovery, clock, 0.0)
