"""Commands that are killed, or whose calls fail, at the n-th call on a file: nothing is lost, nothing is recorded twice."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from crashpoints.points import FAULTS, SEED, Point, sample

ONE = os.environ.get("CRASHPOINT")
"""One point to run again: COMMAND:CALL:FILE:N:FAULT."""

SAMPLES = {"run": 4, "resume": 3, "replay": 1, "purge": 1, "repair": 1}
CASES = [(name, fault) for name in SAMPLES for fault in FAULTS]
if ONE:
    CASES = [(ONE.partition(":")[0], ONE.rpartition(":")[2])]


def swept(rig, name: str, points: list[Point]) -> None:
    failures, reached = [], 0
    for point in points:
        try:
            # Which thread makes a call varies for some files; each has a first one.
            reached += rig.hit(point) or rig.hit(replace(point, number=1))
        except AssertionError as error:
            failures.append(f"CRASHPOINT={name}:{point}\n{error}")
        except Exception as error:
            failures.append(f"CRASHPOINT={name}:{point}\n{type(error).__name__}: {error}")
    print(f"{name}: seed {SEED}, {len(points)} points, {reached} reached, {len(failures)} failed")
    assert not failures, "\n\n".join(failures)
    assert reached >= len(points) / 2, "points were not reached"


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_sample_of_points(rig, name: str, fault: str) -> None:
    made = rig(name)
    if ONE:
        chosen = [Point.parse(ONE.partition(":")[2])]
    else:
        chosen = sample((point for point in made.points() if point.fault == fault), SAMPLES[name], f"{SEED}{name}{fault}")
    swept(made, name, chosen)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.skipif(bool(ONE), reason="one point is asked for")
@pytest.mark.parametrize(("name", "fault"), CASES)
def test_all_points(rig, name: str, fault: str) -> None:
    made = rig(name)
    swept(made, name, [point for point in made.points() if point.fault == fault])
