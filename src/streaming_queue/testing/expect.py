"""Expectations of a check, and the texts of their failures."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from streaming_queue.errors import StreamingQueueError
from streaming_queue.testing.executors import soon

SLACK_S = 2.0
"""Seconds that a busy machine may add to a limit of the contract."""
_SHOWN = 600
_FRAMES = 5


class UnmetError(AssertionError):
    """An expectation of a check failed."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected: {expected}\ncame: {came}")
        self.expected = expected
        self.came = came


def shown(value: object) -> str:
    """A value or an error as text for a report: on one line, escaped, shortened."""
    if isinstance(value, StreamingQueueError):
        return (
            f"{type(value).__name__}({str(value)!a}, retryable={value.retryable}, retry_after_s={value.retry_after_s})"
        )
    text = ascii(value)
    return (
        text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]} ({len(text):,} characters)"
    )


def unmet(expected: str, came: object) -> NoReturn:
    """Fail the check. The report has a text `came` unchanged, and another value as `shown`."""
    raise UnmetError(expected, came if isinstance(came, str) else shown(came))


def expect(condition: object, expected: str, came: object) -> None:
    """Fail the check unless `condition` is true."""
    if not condition:
        unmet(expected, came)


def expect_equal(came: object, expected: object, what: str) -> None:
    """Fail the check unless both are equal. For texts, the report shows the first difference."""
    if came == expected:
        return
    if isinstance(came, str) and isinstance(expected, str):
        pairs = enumerate(zip(came, expected, strict=False))
        at = next((index for index, (a, b) in pairs if a != b), min(len(came), len(expected)))
        start = max(0, at - 40)
        sizes = f"{{}} ({{}} characters; they differ from {at} on)"
        unmet(
            sizes.format(f"{what} {shown(expected[start : at + 80])}", len(expected)),
            sizes.format(shown(came[start : at + 80]), len(came)),
        )
    unmet(f"{what} {shown(expected)}", shown(came))


async def within(seconds: float, asked: Awaitable[Any], what: str) -> Any:
    """The outcome of `asked`, raised or returned. The check fails without an outcome after `seconds`."""
    task = asyncio.ensure_future(asked)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        unmet(f"{what} within {seconds:g} s", f"nothing for {seconds:g} s")
    return await task


async def expect_error(
    asked: Awaitable[Any], kinds: type[Exception] | tuple[type[Exception], ...], *, within_s: float
) -> StreamingQueueError:
    """The error of `asked`. The check fails unless it is a StreamingQueueError and one of `kinds`."""
    names = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    try:
        came = await within(within_s, asked, names)
    except UnmetError:
        raise
    except Exception as error:
        if not isinstance(error, kinds) or not isinstance(error, StreamingQueueError):
            unmet(f"{names} is raised", f"{shown(error)} is raised")
        return error
    unmet(f"{names} is raised", f"an answer: {shown(came)}")


async def eventually(
    condition: Callable[[], object], within_s: float, expected: str, came: Callable[[], object]
) -> None:
    """Fail the check unless `condition` holds within `within_s`."""
    try:
        await soon(lambda: bool(condition()), within_s)
    except AssertionError:
        unmet(f"{expected} within {within_s:g} s", came())


def where(error: BaseException) -> str:
    """The last calls before an exception, the most recent last."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return "".join(f"\n    in {frame.name}, {frame.filename}:{frame.lineno}: {frame.line}" for frame in frames)
