"""Commands that are killed, or whose calls fail, at the n-th call on a file: nothing is lost, nothing is recorded twice."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from crashpoints.points import FAULTS, SEED, Point, sample

ONE = os.environ.get("CRASHPOINT", "")
"""One point to run again: COMMAND:CALL:FILE:N:FAULT."""

SAMPLES = {"run": 8, "resume": 5, "replay": 4, "purge": 3, "repair": 4}
"""Points of each command in `make test`; `make faults` runs all."""


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


@pytest.mark.parametrize("name", [ONE.partition(":")[0]] if ONE else SAMPLES)
def test_a_sample_of_points(rig, name: str) -> None:
    made = rig(name)
    chosen = [Point.parse(ONE.partition(":")[2])] if ONE else sample(made.points(), SAMPLES[name], f"{SEED} {name}")
    swept(made, name, chosen)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.skipif(bool(ONE), reason="one point is asked for")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SAMPLES)
def test_all_points(rig, name: str, fault: str) -> None:
    made = rig(name)
    swept(made, name, [point for point in made.points() if point.fault == fault])
