"""What a test runs over: one protocol, and some of many cases, with the suite; the others with `make interop`.

The protocols come from the registry: those that host agents which other processes can reach.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from streaming_queue.comm import registry


def some_of(cases: Iterable[str], *chosen: str) -> list[Any]:
    """All cases as parameters, of which the suite runs those chosen."""
    return [case if case in chosen else pytest.param(case, marks=pytest.mark.interop) for case in cases]


ONE, OTHER = "a2a", "http"
ALL = tuple(
    sorted(
        (
            spec.name
            for spec in registry.BUILTIN
            if spec.name != registry.IN_PROCESS and registry.load(spec.name).capabilities.host
        ),
        key=[ONE, OTHER].count,
        reverse=True,
    )
)
TWO = some_of((ONE, OTHER), ONE)
EVERY = some_of(ALL, ONE)
