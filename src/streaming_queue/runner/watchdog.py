"""Watches the event loop of a process from a thread: a loop that stands still is reported, and ends the process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.telemetry.streams import writing

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

LOOK_S = 1.0
"""Pause between two looks at the loop, in seconds."""
REPORT_LOOKS = 10
"""Looks at a loop that does not turn before a report with its stack."""
END_LOOKS = 300
"""Looks at a loop that does not turn which end the process. An agent's code may block the loop for minutes."""
ENDING_LOOKS = 30
"""Looks after the end of the work at which the process ends, even if a thread still hangs."""
FLUSH_S = 1.0
FRAMES = 8
"""The innermost frames of a reported stack."""


class Watchdog:
    """Runs a coroutine and watches its event loop.

    It counts looks, not time: a process that was stopped for a while (SIGSTOP, a sleeping machine) has done none. It
    leaves a loop alone that waits for a paused terminal or a pager: its user can go on. Code that holds the
    interpreter's lock forever stops the watchdog, too.
    """

    def __init__(self) -> None:
        self._turns = 0
        self._main_thread = 0
        self._code: int | None = None
        self._closed = threading.Event()

    async def guard(self, main: Coroutine[Any, Any, _T]) -> _T:
        """The result of `main`. Watch the loop until `close`; after `main` the process has half a minute to end."""
        self._main_thread = threading.get_ident()
        self._turn(asyncio.get_running_loop())
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        code: int = ExitCode.INTERNAL
        try:
            result = await main
            code = result if isinstance(result, int) else ExitCode.OK
            return result
        except BaseException as error:
            code = exit_code(error)
            raise
        finally:
            self._code = code

    def close(self) -> None:
        """End the watch."""
        self._closed.set()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turns += 1
        loop.call_later(LOOK_S, self._turn, loop)

    def _watch(self) -> None:
        seen = still = ending = 0
        while not self._closed.wait(LOOK_S):
            still = still + 1 if self._turns == seen and self._main_thread not in writing else 0
            seen = self._turns
            if still and still % REPORT_LOOKS == 0 and self._code is None:
                bounded(lambda looks=still: self._report(looks * LOOK_S))  # type: ignore[misc]
            if still >= END_LOOKS and self._code is None:
                end_process(ExitCode.STOPPED, "the event loop does not turn: the process ends; a run can be resumed")
            if self._code is not None:
                ending += 1
                if ending >= ENDING_LOOKS:
                    end_process(self._code, "a thread hangs: the process ends without it")

    def _report(self, seconds: float) -> None:
        stack = stack_of(self._main_thread)
        logger.warning("the event loop has not turned for %g s; it stands at:\n%s", seconds, stack)


def stack_of(thread: int) -> str:
    """Where a thread stands now; its files, lines and functions, no values."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 (documented for this use)
    return "" if frame is None else "".join(traceback.format_stack(frame, FRAMES))


def bounded(work: Callable[[], object]) -> None:
    """Do `work`, but wait for it no longer than `FLUSH_S`: a pipe or a disk may hang."""
    worker = threading.Thread(target=work, name="watchdog:report", daemon=True)
    worker.start()
    worker.join(FLUSH_S)


def end_process(code: int, reason: str = "") -> None:
    """End the process with `code`, whatever hangs in it; its worker processes end with its pipes."""

    def flush() -> None:
        if reason:
            logger.error("%s", reason)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()

    bounded(flush)
    os._exit(code)
