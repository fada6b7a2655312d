"""What a test runs over: one protocol, and some of many cases, with the suite; the others with `make interop`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some_of(cases: Iterable[str], *chosen: str) -> list[Any]:
    """All cases as parameters, of which the suite runs those chosen."""
    return [case if case in chosen else pytest.param(case, marks=pytest.mark.interop) for case in cases]


ALL = ("a2a", "http", "acp", "grpc", "ws", "nats", "agora", "mcp", "anp")
ONE = ALL[0]
TWO = some_of(ALL[:2], ONE)
EVERY = some_of(ALL, ONE)
