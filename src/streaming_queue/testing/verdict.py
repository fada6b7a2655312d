"""The verdict of a check: its line holds, is skipped with a reason, or fails with a report."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from streaming_queue.testing.contract import CONTRACT, Line
from streaming_queue.testing.expect import UnmetError, shown, where
from streaming_queue.testing.lab import GRACE_S, Lab

CHECK_BOUND_S = 40.0

Check = Callable[..., Coroutine[Any, Any, None]]


class ContractError(pytest.fail.Exception):  # type: ignore[misc, name-defined]
    """A line of the contract does not hold. The text is the whole report."""

    def __init__(self, text: str) -> None:
        super().__init__(text, pytrace=False)


def holds(line_id: str, *, grace_s: float = GRACE_S) -> Callable[[Check], Check]:
    """Turn a coroutine method into the check of a line, with the line's needs, a time limit and a report.

    `grace_s` is the `disconnect_grace_s` of its hosts.
    """
    line = CONTRACT[line_id]

    def decorate(check: Check) -> Check:
        @functools.wraps(check)
        async def checked(self: Any, lab: Lab, **parameters: Any) -> None:
            lab.require(line.needs)
            await _judge(line, check(self, lab, **parameters), lab)

        checked.__dict__.update(contract_line=line, grace_s=grace_s)
        marked: Check = pytest.mark.asyncio(loop_scope="function")(checked)
        return marked

    return decorate


async def _judge(line: Line, check: Coroutine[Any, Any, None], lab: Lab) -> None:
    """Run a check within the time limit. Raises ContractError, or the check's own skip."""
    checking = asyncio.create_task(check, name=f"check:{line.id}")
    await asyncio.wait({checking}, timeout=CHECK_BOUND_S)
    if not checking.done():
        stack = checking.get_stack(limit=1)
        checking.cancel()
        await asyncio.wait({checking}, timeout=1)
        place = f", at line {stack[0].f_lineno} of {stack[0].f_code.co_qualname}" if stack else ""
        raise ContractError(report(line, "an end", f"nothing for {CHECK_BOUND_S:g} s{place}", lab))
    if checking.cancelled():
        raise ContractError(report(line, "an end", "a CancelledError without a cancellation", lab))
    error = checking.exception()
    if isinstance(error, UnmetError):
        raise ContractError(report(line, error.expected, error.came, lab)) from None
    if isinstance(error, Exception):
        raise ContractError(report(line, "no exception", f"{shown(error)}{where(error)}", lab)) from error
    if error is not None:  # a skip
        raise error


def report(line: Line, expected: str, came: str, lab: Lab) -> str:
    """The report: the line, the expectation, the actual result, and the end of the traffic on the wire."""
    claims = [need for need in line.needs if getattr(lab.claims, need, False)]
    claimed = f" (the backend claims {', '.join(claims)})" if claims else ""
    parts = [f"{line.id} does not hold: {line.text}{claimed}", f"  expected: {expected}", f"  came: {came}"]
    return "\n".join([*parts, *(f"  {seen}" for seen in lab.wire())])
