from __future__ import annotations

import math

import pytest
from unit.failstorm.storms import timeline

from streaming_queue.failstorm.measures import figures_of, throughput, wrongly_ejected
from streaming_queue.failstorm.timeline import Cycle

CYCLE = Cycle(5.0, {"W1": 7.0, "W2": 7.5}, 15.0)
SEEN = ((5.1, "W1"), (5.3, "W2"))
BACK = ((8.0, "W1"), (9.0, "W2"))


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=1e-6)


def test_throughput_is_that_of_the_second_that_follows() -> None:
    rates = dict(throughput(timeline(pace=[(5.0, 0.0)], until=10.0)))
    assert rates[0.0] == about(100)
    assert rates[4.0] == about(100)
    assert rates[4.5] == about(50)
    assert rates[5.0] == about(0)
    assert max(rates) == about(9.0)


def test_a_fault_is_seen_when_the_last_of_its_victims_is() -> None:
    figures = figures_of(timeline(cycles=[CYCLE], downs=SEEN, ups=BACK), CYCLE)
    assert figures.detection_s == about(0.3)
    assert figures.readmission_s == about(1.5)  # W2: over at 7.5, back at 9.0


def test_a_dip_counts_from_the_moment_at_which_the_fault_was_seen() -> None:
    figures = figures_of(timeline(pace=[(5.0, 40.0), (6.5, 100.0)], cycles=[CYCLE], downs=SEEN, ups=BACK), CYCLE)
    assert figures.recovery_s == about(6.5 - 5.3)
    assert figures.full_recovery_s == about(9.0 - 5.0)


def test_where_less_can_be_done_than_is_asked_for_the_survivors_capacity_counts() -> None:
    half = {"capacity_per_s": 100.0, "pace": [(5.0, 20.0), (6.0, 48.0), (9.5, 100.0)]}
    figures = figures_of(timeline(cycles=[CYCLE], downs=SEEN, ups=BACK, **half), CYCLE)
    assert figures.recovery_s == about(6.0 - 5.3)  # 48 of the 50 a second that two of four workers can do
    assert figures.full_recovery_s == about(4.4)  # nine tenths of the second that follows


def test_what_does_not_come_back_before_the_next_fault_never_did() -> None:
    figures = figures_of(timeline(pace=[(5.0, 40.0)], cycles=[CYCLE], downs=SEEN, ups=BACK[:1]), CYCLE)
    assert figures.recovery_s == math.inf
    assert figures.full_recovery_s == math.inf
    assert figures.readmission_s == math.inf


def test_an_unnoticed_victim_was_never_detected() -> None:
    figures = figures_of(timeline(cycles=[CYCLE], downs=SEEN[:1], ups=BACK[:1]), CYCLE)
    assert figures.detection_s == math.inf
    assert figures.recovery_s == about(0.0)
    assert figures.readmission_s == about(1.0)


def test_slowness_is_not_to_be_detected_and_dips_count_from_its_beginning() -> None:
    figures = figures_of(timeline(pace=[(5.0, 40.0), (6.5, 100.0)], cycles=[CYCLE]), CYCLE, is_seen=False)
    assert figures.detection_s is None
    assert figures.readmission_s is None
    assert figures.recovery_s == about(1.5)


def test_a_worker_that_flaps_is_back_when_it_stays() -> None:
    cycle = Cycle(5.0, {"W1": 8.0}, 15.0)
    downs, ups = [(5.1, "W1"), (7.1, "W1")], [(6.0, "W1"), (8.6, "W1")]
    storm = timeline(cycles=[cycle], downs=downs, ups=ups)
    figures = figures_of(storm, cycle)
    assert figures.detection_s == about(0.1)
    assert figures.readmission_s == about(0.6)
    assert wrongly_ejected(storm) == 0


def test_the_wait_is_that_of_the_questions_due_while_the_fault_had_its_effects() -> None:
    waits = [(4.9, 9.0), *((5.0 + number / 100, number / 1000) for number in range(100)), (15.0, 9.0)]
    assert figures_of(timeline(cycles=[CYCLE], waits=waits), CYCLE).p99_ms == about(98.0)


def test_only_victims_may_be_ejected_and_only_until_they_are_back() -> None:
    def ejected(*downs: tuple[float, str]) -> int:
        return wrongly_ejected(timeline(cycles=[CYCLE], downs=[*SEEN, *downs], ups=BACK))

    assert ejected() == 0
    assert ejected((6.0, "W3")) == 1  # no victim
    assert ejected((4.9, "W1")) == 1  # before its fault
    assert ejected((8.1, "W1")) == 1  # it was back
    assert wrongly_ejected(timeline(cycles=[CYCLE], downs=[(7.2, "W1")])) == 0  # seen late is seen
    assert wrongly_ejected(timeline(cycles=[CYCLE], downs=SEEN), is_seen=False) == 2
