"""Checks carried out: all at once, each within its bound, none able to hide another's findings."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TypeVar, cast

from streaming_queue.doctor.finding import Finding, failure, problem
from streaming_queue.errors import StreamingQueueError
from streaming_queue.exit_codes import ExitCode

T = TypeVar("T")

BOUND_S = 8.0
"""How long a check may take; those that ask over the network bound each step themselves, by `STEP_S`."""
STEP_S = 3.0
SHORTEST_SECRET = 8
"""A shorter one is a placeholder; hiding it would garble every text it happens to occur in."""


@dataclass(frozen=True, slots=True)
class Check:
    """`look` finds out within `BOUND_S` and `more_s`; a function that is no coroutine's may block.

    `name` stands for the check if it fails.
    """

    name: str
    look: Callable[[], list[Finding]] | Callable[[], Awaitable[list[Finding]]]
    more_s: float = 0.0


async def examine(checks: Sequence[Check], *, secrets: Collection[str] = ()) -> list[Finding]:
    """The findings of all checks, in the checks' order; `secrets` appear in none of them."""
    found = await asyncio.gather(*map(_carried_out, checks))
    return [_without(secrets, finding) for findings in found for finding in findings]


async def _carried_out(check: Check) -> list[Finding]:
    try:
        async with asyncio.timeout(BOUND_S + check.more_s) as bound:
            found = await check.look() if iscoroutinefunction(check.look) else await in_thread(check.look)
            return cast("list[Finding]", found)
    except StreamingQueueError as error:
        return [failure(check.name, error)]
    except Exception as error:
        if bound.expired():
            seen = f"no result within {BOUND_S + check.more_s:g} s"
            return [problem(check.name, seen, "see what keeps this machine, its disk or its network waiting")]
        # Neither its text nor its traceback: they may hold what must not be shown.
        where = traceback.extract_tb(error.__traceback__)[-1]
        seen = f"the check itself failed: {type(error).__name__} in {Path(where.filename).name}, line {where.lineno}"
        return [problem(check.name, seen, "report this; the other checks are not affected", ExitCode.INTERNAL)]


async def in_thread(function: Callable[[], T]) -> T:
    """What `function` returns, from a thread that keeps neither the caller nor the process: a dead disk may hold it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]  # without an error there is a value

    def run() -> None:
        outcome: tuple[T | None, BaseException | None]
        try:
            outcome = function(), None
        except BaseException as error:
            outcome = None, error
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return await future


def _without(secrets: Collection[str], finding: Finding) -> Finding:
    seen, remedy = finding.seen, finding.remedy
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            seen = seen.replace(secret, "***")
            remedy = remedy and remedy.replace(secret, "***")
    return replace(finding, seen=seen, remedy=remedy)
