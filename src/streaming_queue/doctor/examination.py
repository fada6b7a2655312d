"""Carry out checks: all at once, each within its bound, each with its own findings."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TypeVar, cast

from streaming_queue.doctor.finding import Finding, failure, problem
from streaming_queue.errors import StreamingQueueError
from streaming_queue.exit_codes import ExitCode

T = TypeVar("T")

BOUND_S = 8.0
"""Time limit of a check. A check of the network limits each step to `STEP_S`."""
STEP_S = 3.0
SHORTEST_SECRET = 8
"""A shorter secret is a placeholder. It is not hidden, because it may occur in any text."""


@dataclass(frozen=True, slots=True)
class Check:
    """`look` returns findings within `BOUND_S` plus `more_s`. It may block unless it is a coroutine function.

    `name` is the check of the finding if `look` fails.
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
            return [problem(check.name, seen, "see why this machine, its disk or its network does not respond")]
        # The finding omits text and traceback: they may contain secrets.
        where = traceback.extract_tb(error.__traceback__)[-1]
        seen = f"the check itself failed: {type(error).__name__} in {Path(where.filename).name}, line {where.lineno}"
        return [problem(check.name, seen, "report this; the other checks are not affected", ExitCode.INTERNAL)]


async def in_thread(function: Callable[[], T]) -> T:
    """The result of `function`, from a daemon thread: a hanging disk delays neither the caller nor the process."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # a cancelled caller does not cancel it

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return await asyncio.wrap_future(future)


def _without(secrets: Collection[str], finding: Finding) -> Finding:
    seen, remedy = finding.seen, finding.remedy
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            seen = seen.replace(secret, "***")
            remedy = remedy and remedy.replace(secret, "***")
    return replace(finding, seen=seen, remedy=remedy)
