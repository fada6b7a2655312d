from __future__ import annotations

import json
import random
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_queue.core.scheduling.bandit import ENOUGH, MOST_SHIFTS, WINDOW, Bandit, Pull, Standing

ARMS = ("a", "b", "c")
HALF = WINDOW // 2 + 1
COSTS = st.one_of(st.none(), st.floats(0, 1000))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("answered"), st.sampled_from(ARMS), COSTS),
        st.tuples(st.just("failed"), st.sampled_from(ARMS)),
        st.tuples(st.just("reach"), st.sets(st.sampled_from(ARMS), min_size=1)),
        st.tuples(st.just("pull"), st.sampled_from(ARMS)),
    ),
    max_size=120,
)


def made(*, seed: int = 0, exploration: float = 0.1, limit_ms: float | None = None, arms=ARMS) -> Bandit:
    return Bandit(arms, exploration=exploration, draw=random.Random(seed).random, limit_ms=limit_ms)


def asked(bandit: Bandit, name: str) -> Pull | None:
    """Whether, and why, an arm that asks is pulled."""
    why = Pull.FREELY if bandit.is_free(name) else Pull.EXPLORED if bandit.is_due(name) else None
    if why:
        bandit.pull(name, why)
    return why


def cost(bandit: Bandit, name: str, cost_ms: float | None, *, times: int = 1, work_ms: float = 10.0) -> None:
    for _ in range(times):
        bandit.answered(name, cost_ms=cost_ms, work_ms=work_ms)


def measured(**costs: float) -> Bandit:
    """A bandit that has seen a full window of each of these."""
    bandit = made()
    for name, cost_ms in costs.items():
        cost(bandit, name, cost_ms, times=WINDOW)
    return bandit


def carried_out(bandit: Bandit, steps) -> list[object]:
    decisions: list[object] = []
    for what, who, *more in steps:
        if what == "answered":
            bandit.answered(who, cost_ms=more[0], work_ms=5.0)
        elif what == "failed":
            bandit.failed(who)
        elif what == "reach":
            bandit.reach(who)
        else:
            decisions.append(asked(bandit, who))
        decisions.append([arm.standing for arm in bandit.arms.values()])
    return decisions


@given(STEPS, st.integers(0, 99))
def test_the_same_seed_and_observations_give_the_same_decisions(steps, seed):
    first, second = made(seed=seed), made(seed=seed)
    assert carried_out(first, steps) == carried_out(second, steps)
    assert first.report() == second.report()


@given(STEPS, st.none() | st.floats(1, 500))
def test_of_the_arms_within_reach_one_is_always_free(steps, limit_ms):
    bandit, reached = made(limit_ms=limit_ms), set(ARMS)
    for step in steps:
        carried_out(bandit, [step])
        reached = step[1] if step[0] == "reach" else reached
        assert any(bandit.is_free(name) for name in reached)


@given(STEPS)
def test_every_pull_is_counted_with_its_reason(steps):
    bandit = made()
    carried_out(bandit, steps)
    report = json.loads(json.dumps(bandit.report()))
    taken = [sum(figures["taken"].values()) for figures in report["protocols"].values()]
    assert sum(taken) == report["questions"] == bandit.pulls
    for number, figures in enumerate(report["protocols"].values()):
        assert sum(figures["held_back"].values()) <= bandit.pulls - taken[number]
    assert report["shift_count"] == len(report["shifts"]) <= MOST_SHIFTS or report["shift_count"] > MOST_SHIFTS


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.02, 0.5), st.integers(1, 4))
def test_an_arm_that_is_held_back_keeps_its_floor(seed, exploration, held):
    arms = ["best", *(f"slow-{number}" for number in range(held))]
    bandit = made(seed=seed, exploration=exploration, arms=arms)
    for name in arms:
        cost(bandit, name, 1.0 if name == "best" else 500.0, times=WINDOW)
    last, furthest, total = dict.fromkeys(arms, 0), 0, 2000
    for pull in range(total):
        waiting = sorted(arms[1:], key=last.__getitem__)  # who waits longest asks first, as slots do
        why = next((name for name in waiting if asked(bandit, name)), None)
        if why is None:
            assert asked(bandit, "best") is Pull.FREELY
        else:
            furthest = max(furthest, pull - last[why])
            last[why] = pull
            cost(bandit, why, 500.0)
    explored = sum(bandit.arms[name].pulls[Pull.EXPLORED] for name in arms[1:])
    assert furthest <= 2 * held / exploration + held
    assert explored / total == pytest.approx(exploration, rel=0.5, abs=0.01)


def test_an_arm_is_judged_when_enough_is_known_of_it():
    bandit = made()
    cost(bandit, "a", 1.0, times=WINDOW)
    cost(bandit, "b", 900.0, times=ENOUGH - 1)
    assert bandit.is_free("b")
    cost(bandit, "b", 900.0)
    assert bandit.arms["b"].standing is Standing.SLOW
    assert [(shift.protocol, shift.was, shift.now) for shift in bandit.shifts] == [("b", Standing.FREE, Standing.SLOW)]
    assert "overhead 900.0 ms" in bandit.shifts[0].because


@pytest.mark.parametrize(
    ("best", "work_ms", "free", "slow"),
    [(1.0, 0.0, 6.9, 7.1), (10.0, 0.0, 24.9, 25.1), (1.0, 100.0, 106.9, 107.1), (20.0, 1000.0, 1044.0, 1046.0)],
)
def test_much_worse_is_what_doubles_a_pull_with_its_work(best, work_ms, free, slow):
    for cost_ms, standing in ((free, Standing.FREE), (slow, Standing.SLOW)):
        bandit = made()
        cost(bandit, "a", best, times=WINDOW, work_ms=work_ms)
        cost(bandit, "b", cost_ms, times=WINDOW, work_ms=work_ms)
        assert bandit.arms["b"].standing is standing


def test_a_few_slow_answers_change_nothing_and_four_do():
    bandit = measured(a=1.0, b=1.0, c=1.0)
    cost(bandit, "b", 5000.0, times=HALF - 1)
    assert bandit.is_free("b")
    cost(bandit, "b", 5000.0)
    assert not bandit.is_free("b")


def test_an_arm_that_does_well_again_is_freed_after_as_many_good_answers_as_held_it_back():
    bandit = measured(a=1.0, b=1.0, c=1.0)
    cost(bandit, "b", 300.0, times=WINDOW)
    explorations = 0
    for _ in count():
        if asked(bandit, "b"):
            explorations += 1
            cost(bandit, "b", 1.0)
        else:
            assert asked(bandit, "a") is Pull.FREELY
        if bandit.is_free("b"):
            break
    assert explorations == HALF
    assert bandit.pulls <= 2 * 1 / 0.1 + HALF + 1  # the first when it is due; each good one is followed up at once


def test_failures_hold_an_arm_back_until_they_are_long_past():
    bandit = measured(a=1.0, b=1.0, c=1.0)
    bandit.failed("b")
    assert bandit.is_free("b")
    bandit.failed("b")
    assert bandit.arms["b"].standing is Standing.FAILING
    assert bandit.arms["b"].success_share == pytest.approx(5 / 7)
    cost(bandit, "b", 1.0, times=WINDOW - 2)
    assert not bandit.is_free("b")
    cost(bandit, "b", 1.0)
    assert bandit.is_free("b")
    assert [shift.because for shift in bandit.shifts] == [
        "2 of the last 7 questions failed",
        "overhead 1.0 ms, 1 of the last 7 questions failed",
    ]


def test_a_limit_holds_back_what_is_above_it_however_the_others_are():
    bandit = made(limit_ms=4.0)
    for name, cost_ms in {"a": 3.0, "b": 5.0, "c": 3.5}.items():
        cost(bandit, name, cost_ms, times=WINDOW)
    assert [arm.standing for arm in bandit.arms.values()] == [Standing.FREE, Standing.OVER_LIMIT, Standing.FREE]
    assert "above max_overhead_ms, 4.0 ms" in bandit.shifts[0].because


def test_where_none_is_good_the_best_of_them_is_free_and_that_is_told():
    bandit = made(limit_ms=1.0)
    for name, cost_ms in {"a": 30.0, "b": 20.0, "c": 40.0}.items():
        cost(bandit, name, cost_ms, times=WINDOW)
    assert [name for name in ARMS if bandit.is_free(name)] == ["b"]
    bandit.reach({"a", "c"})
    assert [name for name in ("a", "c") if bandit.is_free(name)] == ["a"]
    assert bandit.shifts[-1].because == "no reachable protocol is better" or not bandit.is_free("b")
    bandit.reach(set())
    bandit.reach(set(ARMS))
    assert [name for name in ARMS if bandit.is_free(name)] == ["b"]


def test_the_best_is_sought_among_those_within_reach():
    bandit = measured(a=1.0, b=200.0, c=210.0)
    assert [bandit.is_free(name) for name in ARMS] == [True, False, False]
    bandit.reach({"b", "c"})
    assert bandit.is_free("b")
    assert bandit.is_free("c")
    bandit.reach(set(ARMS))
    assert [bandit.is_free(name) for name in ARMS] == [True, False, False]


def test_an_arm_whose_cost_nobody_tells_is_judged_by_its_failures():
    bandit = measured(a=1.0)
    cost(bandit, "b", None, times=WINDOW)
    assert bandit.is_free("b")
    assert bandit.report()["protocols"]["b"]["overhead_ms"] is None
    bandit.failed("b")
    bandit.failed("b")
    assert not bandit.is_free("b")


def test_the_shifts_kept_are_bounded_and_all_are_counted():
    bandit = measured(a=1.0, b=1.0)
    for _ in range(MOST_SHIFTS):
        cost(bandit, "b", 900.0, times=WINDOW)
        cost(bandit, "b", 1.0, times=WINDOW)
    assert len(bandit.shifts) == MOST_SHIFTS
    assert bandit.shift_count == 2 * MOST_SHIFTS
